"""Tiny DenseFusion, stage 1: the connector learns from long captions.

Reproduces: DenseFusion's recipe in the small.
Command: tools/train.py configs/tiny/densefusion-clip-tiny_mlp2x_llama-tiny_1xb64-300i-pt_tiny-scenes-dense.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/llava-clip-tiny_mlp2x_llama-tiny.py",
    "../_base_/datasets/tiny_scenes_dense.py",
    "../_base_/schedules/tiny.py",
    "../_base_/default_runtime.py",
]

chat_template = dict(_delete_=True, type="plain")
model = dict(
    train_parts=dict(vision_encoder=False, connector=True, language_model=False)
)
default_hooks = dict(checkpoint=dict(trainable_only=True))
train_cfg = dict(max_iters=300)
optim_wrapper = dict(optimizer=dict(lr=3e-3))
base_batch_size = 64
load_from = [
    dict(
        path="work_dirs/clip-tiny_contrastive_none_1xb192-1600i-pt_tiny-scenes",
        parts=["vision_encoder"],
    ),
    dict(
        path="work_dirs/text_none_llama-tiny_1xb64-600i-pt_tiny-scenes",
        parts=["language_model"],
    ),
]
