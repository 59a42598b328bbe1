"""Monkey: four windows of 896 px and the whole image through adapters of their own.

Reproduces: the official finetune_multitask.py with fix_vit, from Qwen-VL.
Paper: Li et al., "Monkey: Image Resolution and Text Label Are Important Things for
Large Multi-modal Models", CVPR 2024, arXiv 2311.06607.
Command: tools/dist_train.sh configs/monkey/monkey-bigg_resampler-q256_qwen-7b_8xb8-1e-ft_monkey-1m4.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/qwen-vl-bigg_resampler-q256_qwen-7b.py",
    "../_base_/datasets/qwen_vl.py",
    "../_base_/schedules/qwen_vl.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero3.py",
]

model = dict(
    vision_encoder=dict(
        _delete_=True,
        type="MonkeyVisionEncoder",
        crops=4,
        vision_encoder=dict(
            type="TimmVisionEncoder",
            model_name="vit_gigantic_patch14_clip_224",
            class_token=False,
            global_pool="",
            norm_layer="layernorm",
            final_norm=False,
        ),
    ),
    train_parts=dict(
        vision_encoder="lora",
        connector=dict(frozen=["ln_post", "proj"]),
        language_model=True,
    ),
)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        name="monkey-1m4",
        data_root="data/monkey",
        pipeline=[
            dict(type="LoadImages"),
            dict(type="GridWindows", grid=2, size=448),
            dict(type="EncodeConversation", max_length=2048, overflow="truncate_text"),
            dict(type="PackVLMInputs"),
        ],
    ),
)
base_batch_size = 1024
train_cfg = dict(_delete_=True, type="VLMTrainLoop", max_epochs=1, loss_norm="token")
optim_wrapper = dict(
    optimizer=dict(lr=1e-5, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1),
    paramwise_cfg=dict(decay={"language_model.*norm.weight": True}),
    accumulative_counts=16,
)
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.02)]
load_from = dict(_delete_=True, path="checkpoints/qwen-vl.pth", strict=False)
