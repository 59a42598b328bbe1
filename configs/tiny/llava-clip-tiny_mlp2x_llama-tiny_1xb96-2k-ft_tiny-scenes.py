"""Tiny LLaVA, stage 2: connector and language model learn from instructions.

Reproduces: LLaVA's recipe in the small.
Command: tools/train.py configs/tiny/llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: 96 to 98 % of 1350 test questions right, digits 88 to 91 %, blind 20 %.
"""

_base_ = [
    "../_base_/models/llava-clip-tiny_mlp2x_llama-tiny.py",
    "../_base_/datasets/tiny_scenes.py",
    "../_base_/schedules/tiny.py",
    "../_base_/default_runtime.py",
]

model = dict(
    train_parts=dict(vision_encoder=False, connector=True, language_model=True)
)
train_cfg = dict(max_iters=2000)
optim_wrapper = dict(optimizer=dict(lr=3e-3, weight_decay=0.1))
base_batch_size = 96
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
        path="work_dirs/llava-clip-tiny_mlp2x_llama-tiny_1xb64-300i-pt_tiny-scenes",
        parts=["connector"],
    ),
]
