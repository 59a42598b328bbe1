"""Tiny LLaVA-HR: a tiny ConvNeXt adapts a tiny CLIP.

Reproduces: the parts of LLaVA-HR in the small; both encoders' meeting starts from scratch.
Command: tools/train.py configs/tiny/llava-hr-clip-convnext-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/llava-hr-clip-convnext-tiny_mlp2x_llama-tiny.py",
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
