"""MiniGPT-4 7B, stage 1: only the projection behind the frozen Q-Former learns.

Reproduces: the official recipe (4 epochs of 5000 iterations, 64 pairs per GPU).
Paper: Zhu et al., "MiniGPT-4: Enhancing Vision-Language Understanding with Advanced
Large Language Models", ICLR 2024, arXiv 2304.10592.
Command: tools/dist_train.sh configs/minigpt4/minigpt4-eva-g-224_qformer-q32_vicuna-7b_4xb64-20k-pt_laion-cc-sbu.py 4
Hardware: sized for 4 GPUs of 80 GB (the authors: 10 h on 4 x A100).
Expected: a projection for stage 2; no benchmark is scored here. Ours: not measured.
"""

_base_ = [
    "../_base_/models/eva-vit-g_qformer-q32_vicuna-7b.py",
    "../_base_/datasets/captions.py",
    "../_base_/schedules/lavis.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/ddp.py",
]

model = dict(
    train_parts=dict(
        vision_encoder=False, connector=dict(only=["proj"]), language_model=False
    )
)
train_dataloader = dict(
    dataset=dict(
        name="laion-cc-sbu",
        data_root="data/minigpt4",
        ann_file="laion_cc_sbu.jsonl",
    )
)
base_batch_size = 256
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [
    dict(
        type="WarmupCosineLR",
        warmup_ratio=0.25,
        start_ratio=0.01,
        min_ratio=0.8,
        from_start=True,
    )
]
default_hooks = dict(checkpoint=dict(trainable_only=True))
load_from = dict(
    _delete_=True, path="pretrained/minigpt4_qformer.pth", parts=["connector"]
)
