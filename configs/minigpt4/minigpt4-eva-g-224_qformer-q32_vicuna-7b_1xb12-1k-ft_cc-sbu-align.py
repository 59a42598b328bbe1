"""MiniGPT-4 7B, stage 2: the projection learns from 3.5 K detailed descriptions.

Reproduces: the official recipe (5 epochs of 200 iterations, 12 samples each).
Paper: Zhu et al., "MiniGPT-4: Enhancing Vision-Language Understanding with Advanced
Large Language Models", ICLR 2024, arXiv 2304.10592.
Command: tools/train.py configs/minigpt4/minigpt4-eva-g-224_qformer-q32_vicuna-7b_1xb12-1k-ft_cc-sbu-align.py
Hardware: sized for 1 GPU of 80 GB (the authors: 7 minutes on 1 x A100).
Expected: judged by eye in the paper. Ours: not measured.
"""

_base_ = [
    "../_base_/models/eva-vit-g_qformer-q32_vicuna-7b.py",
    "../_base_/datasets/captions.py",
    "../_base_/schedules/lavis.py",
    "../_base_/default_runtime.py",
]

model = dict(
    train_parts=dict(
        vision_encoder=False, connector=dict(only=["proj"]), language_model=False
    )
)
chat_template = "minigpt4"
train_dataloader = dict(
    batch_size=12,
    dataset=dict(
        name="cc-sbu-align",
        data_root="data/cc_sbu_align",
        ann_file="cc_sbu_align.json",
        image_prefix="image",
    ),
)
base_batch_size = 12
train_cfg = dict(max_iters=1000)
optim_wrapper = dict(optimizer=dict(lr=3e-5))
param_scheduler = [
    dict(
        type="WarmupCosineLR",
        warmup_ratio=0.2,
        start_ratio=1 / 30,
        min_ratio=1 / 3,
        from_start=True,
    )
]
default_hooks = dict(checkpoint=dict(trainable_only=True))
load_from = [
    dict(path="pretrained/minigpt4_qformer.pth", parts=["connector"]),
    dict(
        path="work_dirs/minigpt4-eva-g-224_qformer-q32_vicuna-7b_4xb64-20k-pt_laion-cc-sbu",
        parts=["connector"],
    ),
]
