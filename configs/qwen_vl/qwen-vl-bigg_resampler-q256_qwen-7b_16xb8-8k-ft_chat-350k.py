"""Qwen-VL-Chat, stage 3: connector and language model learn to converse.

Reproduces: the paper's stage 3, as far as published (data are not).
Paper: Bai et al., "Qwen-VL: A Versatile Vision-Language Model for Understanding,
Localization, Text Reading, and Beyond", 2023, arXiv 2308.12966.
Command: tools/dist_train.sh configs/qwen_vl/qwen-vl-bigg_resampler-q256_qwen-7b_16xb8-8k-ft_chat-350k.py 16
Hardware: sized for 16 GPUs of 80 GB.
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
    train_parts=dict(vision_encoder=False, connector=True, language_model=True)
)
train_dataloader = dict(
    batch_size=8, dataset=dict(name="chat-350k", data_root="data/chat-350k")
)
base_batch_size = 128
train_cfg = dict(max_iters=8000)
optim_wrapper = dict(optimizer=dict(lr=1e-5))
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.375)]
load_from = dict(
    _delete_=True,
    path="work_dirs/qwen-vl-bigg_resampler-q256_qwen-7b_64xb16-19k-ft_multitask-77m",
)
