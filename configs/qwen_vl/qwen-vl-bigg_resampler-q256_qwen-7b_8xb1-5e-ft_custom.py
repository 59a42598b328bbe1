"""Qwen-VL-Chat, full fine-tuning on your own data: tower and its end stay frozen.

Reproduces: the official finetune.py with fix_vit.
Paper: Bai et al., "Qwen-VL: A Versatile Vision-Language Model for Understanding,
Localization, Text Reading, and Beyond", 2023, arXiv 2308.12966.
Command: tools/dist_train.sh configs/qwen_vl/qwen-vl-bigg_resampler-q256_qwen-7b_8xb1-5e-ft_custom.py 8
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
    train_parts=dict(
        vision_encoder=False,
        connector=dict(frozen=["ln_post", "proj"]),
        language_model=True,
    )
)
base_batch_size = 128
train_cfg = dict(_delete_=True, type="VLMTrainLoop", max_epochs=5, loss_norm="token")
optim_wrapper = dict(
    optimizer=dict(lr=1e-5, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1),
    # The Trainer of the scripts spares nn.LayerNorm, which an RMS norm is not.
    paramwise_cfg=dict(decay={"language_model.*norm.weight": True}),
    accumulative_counts=16,
)
load_from = dict(_delete_=True, path="checkpoints/qwen-vl-chat.pth")
