"""Tiny LLaVA, stage 1: the connector learns from descriptions, both towers frozen.

Reproduces: LLaVA's recipe in the small.
Command: tools/train.py configs/tiny/llava-clip-tiny_mlp2x_llama-tiny_1xb64-300i-pt_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: a training loss of 0.42 at the end; connector only, it does not answer yet.
"""

_base_ = [
    "../_base_/models/llava-clip-tiny_mlp2x_llama-tiny.py",
    "../_base_/datasets/tiny_scenes.py",
    "../_base_/schedules/tiny.py",
    "../_base_/default_runtime.py",
]

model = dict(
    train_parts=dict(vision_encoder=False, connector=True, language_model=False)
)
train_dataloader = dict(batch_size=64, dataset=dict(ann_file="pretrain.json"))
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
