"""Qwen-VL, stage 1: tower and connector learn from captions at 224 px.

Reproduces: the paper's stage 1, as far as published (data are not).
Paper: Bai et al., "Qwen-VL: A Versatile Vision-Language Model for Understanding,
Localization, Text Reading, and Beyond", 2023, arXiv 2308.12966.
Command: tools/dist_train.sh configs/qwen_vl/qwen-vl-bigg_resampler-q256_qwen-7b_64xb48-50k-pt_web-1b4.py 64
Hardware: sized for 64 GPUs of 80 GB.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/qwen-vl-bigg_resampler-q256_qwen-7b.py",
    "../_base_/datasets/qwen_vl.py",
    "../_base_/schedules/qwen_vl.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero2.py",
]

model = dict(
    train_parts=dict(vision_encoder=True, connector=True, language_model=False)
)
chat_template = dict(
    _delete_=True,
    type="plain",
    end_mark="<|endoftext|>",
    image_prefix="<img>",
    image_suffix="</img>",
    frame_question=True,
)
train_dataloader = dict(
    batch_size=48,
    dataset=dict(
        name="web-1b4",
        data_root="data/web-1b4",
        pipeline=[
            dict(type="LoadImages"),
            dict(type="ResizeSquare", size=224),
            dict(type="EncodeConversation", max_length=512, overflow="truncate_text"),
            dict(type="PackVLMInputs"),
        ],
    ),
)
base_batch_size = 30720
train_cfg = dict(max_iters=50000)
optim_wrapper = dict(accumulative_counts=10)
default_hooks = dict(checkpoint=dict(trainable_only=True))
load_from = [
    dict(path="checkpoints/openclip-bigg.pth", parts=["vision_encoder"]),
    dict(path="checkpoints/qwen-7b.pth", parts=["language_model"]),
]
