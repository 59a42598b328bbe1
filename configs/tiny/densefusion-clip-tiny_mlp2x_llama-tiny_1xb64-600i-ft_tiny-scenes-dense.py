"""Tiny DenseFusion, stage 2: the tower's upper blocks learn from long captions too.

Reproduces: DenseFusion's recipe in the small.
Command: tools/train.py configs/tiny/densefusion-clip-tiny_mlp2x_llama-tiny_1xb64-600i-ft_tiny-scenes-dense.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = "densefusion-clip-tiny_mlp2x_llama-tiny_1xb64-300i-pt_tiny-scenes-dense.py"

model = dict(
    train_parts=dict(
        vision_encoder=dict(_delete_=True, from_block=2), language_model=True
    ),
)
default_hooks = dict(checkpoint=dict(trainable_only=False))
train_cfg = dict(max_iters=600)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
load_from = [
    dict(
        path="work_dirs/clip-tiny_contrastive_none_1xb192-1600i-pt_tiny-scenes",
        parts=["vision_encoder"],
    ),
    dict(
        path="work_dirs/text_none_llama-tiny_1xb64-600i-pt_tiny-scenes",
        parts=["language_model"],
    ),
    dict(
        path="work_dirs/densefusion-clip-tiny_mlp2x_llama-tiny_1xb64-300i-pt_tiny-scenes-dense",
        parts=["connector"],
    ),
]
