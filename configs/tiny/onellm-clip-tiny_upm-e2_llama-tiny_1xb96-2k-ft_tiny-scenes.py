"""Tiny OneLLM: images, depth maps and sounds through one frozen tower.

Reproduces: OneLLM's parts in the small; tokenizers, connector and language model learn.
Command: tools/train.py configs/tiny/onellm-clip-tiny_upm-e2_llama-tiny_1xb96-2k-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores. The data need `make_tiny_scenes.py --format llava modalities`.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/onellm-clip-tiny_upm-e2_llama-tiny.py",
    "../_base_/datasets/tiny_scenes.py",
    "../_base_/schedules/tiny.py",
    "../_base_/default_runtime.py",
]

steps = [
    dict(type="LoadImages"),
    dict(type="LoadMedia"),
    dict(type="ResizeSquare"),
    dict(type="FrameViews"),
    dict(type="AudioFbank", num_mel_bins=32, num_frames=64),
]
last = dict(type="PackVLMInputs")
model = dict(
    train_parts=dict(
        vision_encoder=dict(only=["tokenizers"]), connector=True, language_model=True
    )
)
train_dataloader = dict(
    sampler=dict(_delete_=True, type="SingleModalitySampler"),
    dataset=dict(
        ann_file="train_modalities.json",
        pipeline=[*steps, dict(type="EncodeConversation", max_length=512), last],
    ),
)
test_dataloader = dict(
    dataset=dict(
        ann_file="test_modalities.json",
        pipeline=[*steps, dict(type="EncodeConversation", mode="generate"), last],
    )
)
train_cfg = dict(max_iters=2000)
optim_wrapper = dict(optimizer=dict(lr=3e-3, weight_decay=0.1))
base_batch_size = 96
load_from = [
    dict(
        path="work_dirs/clip-tiny_contrastive_none_1xb192-1600i-pt_tiny-scenes",
        parts=["vision_encoder"],
        grow=True,
    ),
    dict(
        path="work_dirs/text_none_llama-tiny_1xb64-600i-pt_tiny-scenes",
        parts=["language_model"],
    ),
]
