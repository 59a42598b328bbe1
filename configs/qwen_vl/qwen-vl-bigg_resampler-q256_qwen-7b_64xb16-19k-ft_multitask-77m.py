"""Qwen-VL, stage 2: every part learns seven tasks at 448 px.

Reproduces: the paper's stage 2, as far as published (data are not).
Paper: Bai et al., "Qwen-VL: A Versatile Vision-Language Model for Understanding,
Localization, Text Reading, and Beyond", 2023, arXiv 2308.12966.
Command: tools/dist_train.sh configs/qwen_vl/qwen-vl-bigg_resampler-q256_qwen-7b_64xb16-19k-ft_multitask-77m.py 64
Hardware: sized for 64 GPUs of 80 GB.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/qwen-vl-bigg_resampler-q256_qwen-7b.py",
    "../_base_/datasets/qwen_vl.py",
    "../_base_/schedules/qwen_vl.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero3.py",
]

model = dict(train_parts=dict(vision_encoder=True, connector=True, language_model=True))
train_dataloader = dict(
    batch_size=16,
    dataset=dict(name="multitask-77m", data_root="data/multitask-77m"),
)
base_batch_size = 4096
train_cfg = dict(max_iters=19000)
optim_wrapper = dict(optimizer=dict(lr=5e-5), accumulative_counts=4)
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.02)]
load_from = [
    dict(
        path="work_dirs/qwen-vl-bigg_resampler-q256_qwen-7b_64xb48-50k-pt_web-1b4",
        parts=["vision_encoder", "connector"],
    ),
    dict(path="checkpoints/qwen-7b.pth", parts=["language_model"]),
]
