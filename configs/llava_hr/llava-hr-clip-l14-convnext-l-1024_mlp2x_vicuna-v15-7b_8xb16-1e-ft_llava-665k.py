"""LLaVA-HR 7B, stage 2 at 1024 px: everything learns from instructions.

Reproduces: the official recipe (2e-5, 128 per step, both encoders trained).
Paper: Luo et al., "Feast Your Eyes: Mixture-of-Resolution Adaptation for Multimodal
Large Language Models", ICLR 2025, arXiv 2403.03003.
Command: tools/dist_train.sh configs/llava_hr/llava-hr-clip-l14-convnext-l-1024_mlp2x_vicuna-v15-7b_8xb16-1e-ft_llava-665k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Ours: not measured.
"""

_base_ = [
    "../_base_/models/llava-hr-clip-l14-convnext-l_mlp2x_vicuna-v15-7b.py",
    "../_base_/datasets/llava_665k.py",
    "../_base_/schedules/llava_finetune.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero3.py",
]

model = dict(
    vision_encoder=dict(low=dict(torch_dtype="float32", gradient_checkpointing="all")),
    train_parts=dict(
        # CLIP's last norm is not used, so nothing could train it.
        vision_encoder=dict(
            only=[
                "low.vision_model.embeddings",
                "low.vision_model.pre_layrnorm",
                "low.vision_model.encoder",
                "high",
                "adapters",
                "align",
            ]
        ),
        connector=True,
        language_model=True,
    ),
)
# The official code cuts ids before images come in.
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImages"),
            dict(type="PadToSquare"),
            dict(
                type="EncodeConversation",
                max_length=2496,
                overflow="truncate_text",
                count_images=False,
            ),
            dict(type="PackVLMInputs"),
        ]
    ),
)
load_from = dict(
    _delete_=True,
    path="work_dirs/llava-hr-clip-l14-convnext-l-384_mlp2x_vicuna-v15-7b_8xb32-1e-pt_llava-558k",
    parts=["vision_encoder", "connector"],
)
