"""Tiny Mini-Gemini: a tiny CLIP mines a tiny ConvNeXt.

Reproduces: the parts of Mini-Gemini in the small; both encoders' meeting starts from scratch.
Command: tools/train.py configs/tiny/mini-gemini-clip-convnext-tiny_mining_llama-tiny_1xb96-2k-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/mini-gemini-clip-convnext-tiny_mining_llama-tiny.py",
    "../_base_/datasets/tiny_scenes.py",
    "../_base_/schedules/tiny.py",
    "../_base_/default_runtime.py",
]

model = dict(train_parts=dict(vision_encoder=True, connector=True, language_model=True))
train_cfg = dict(max_iters=2000)
optim_wrapper = dict(optimizer=dict(lr=3e-3, weight_decay=0.1))
base_batch_size = 96
load_from = [
    dict(
        path="work_dirs/text_none_llama-tiny_1xb64-600i-pt_tiny-scenes",
        parts=["language_model"],
    ),
]
