"""InternLM-XComposer2 7B: partial LoRA for image tokens; everything learns.

Reproduces: the official fine-tuning hyperparameters, on the LLaVA-1.5 mix.
Paper: Dong et al., "InternLM-XComposer2", 2024, arXiv 2401.16420.
Command: tools/dist_train.sh configs/internlm_xcomposer2/internlm-xcomposer2-clip-l14-490_mlp2x_internlm2-7b_8xb16-1e-ft_llava-665k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Ours: not measured.
"""

_base_ = [
    "../_base_/models/internlm-xcomposer2-clip-l14-490_mlp2x_internlm2-7b.py",
    "../_base_/datasets/llava_665k.py",
    "../_base_/schedules/llava_finetune.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero3.py",
]

chat_template = "internlm2"
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImages"),
            dict(type="PadToSquare", size=490),
            dict(type="EncodeConversation", max_length=4096, overflow="truncate_text"),
            dict(type="PackVLMInputs"),
        ]
    )
)
model = dict(train_parts=dict(vision_encoder=True, connector=True, language_model=True))
optim_wrapper = dict(
    optimizer=dict(lr=1e-5, betas=(0.9, 0.95), weight_decay=0.1),
    # The Trainer of the scripts spares nn.LayerNorm, which an RMS norm is not.
    paramwise_cfg=dict(decay={"language_model.*norm.weight": True}),
    clip_grad=dict(_delete_=True, max_norm=1.0),
)
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.01)]
# The released model under our names: the rate is one for a trained projector.
load_from = dict(_delete_=True, path="checkpoints/internlm-xcomposer2-vl-7b.pth")
