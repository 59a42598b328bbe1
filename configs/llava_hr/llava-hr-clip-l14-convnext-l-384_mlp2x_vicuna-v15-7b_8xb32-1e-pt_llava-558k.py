"""LLaVA-HR 7B, stage 1 at 384 px: projector and alignment learn from captions.

Reproduces: the official recipe. The adapters are frozen as they start, the identity.
Paper: Luo et al., "Feast Your Eyes: Mixture-of-Resolution Adaptation for Multimodal
Large Language Models", ICLR 2025, arXiv 2403.03003.
Command: tools/dist_train.sh configs/llava_hr/llava-hr-clip-l14-convnext-l-384_mlp2x_vicuna-v15-7b_8xb32-1e-pt_llava-558k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: alignment and projector for stage 2. Ours: not measured.
"""

_base_ = [
    "../_base_/models/llava-hr-clip-l14-convnext-l_mlp2x_vicuna-v15-7b.py",
    "../_base_/datasets/llava_558k.py",
    "../_base_/schedules/llava_pretrain.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero2.py",
]

model = dict(
    vision_encoder=dict(image_size=384),
    train_parts=dict(
        vision_encoder=dict(only=["align"]), connector=True, language_model=False
    ),
)
# The official code cuts ids before images come in.
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImages"),
            dict(type="CenterCropSquare"),
            dict(
                type="EncodeConversation",
                max_length=2048,
                overflow="truncate_text",
                count_images=False,
            ),
            dict(type="PackVLMInputs"),
        ]
    )
)
default_hooks = dict(checkpoint=dict(trainable_only=True))
