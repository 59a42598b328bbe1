"""GPT4RoI 7B, stage 1: the region module learns to name regions, alone.

Reproduces: the official script, train_stage1.sh.
Paper: Zhang et al., "GPT4RoI: Instruction Tuning Large Language Model on
Region-of-Interest", 2023, arXiv 2307.03601.
Command: tools/dist_train.sh configs/gpt4roi/gpt4roi-clip-l14-224_multi-level-roi_llama-7b_4xb1-2e-pt_coco-refcoco.py 4
Hardware: sized for 4 GPUs of 80 GB.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/gpt4roi-clip-l14-224_multi-level-roi_llama-7b.py",
    "../_base_/datasets/gpt4roi_names.py",
    "../_base_/schedules/llava_finetune.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/ddp.py",
]

model = dict(
    train_parts=dict(
        vision_encoder=False, connector=False, region_encoder=True, language_model=False
    )
)
base_batch_size = 4
train_cfg = dict(max_epochs=2)
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.003)]
default_hooks = dict(checkpoint=dict(trainable_only=True))
load_from = dict(
    _delete_=True,
    path="checkpoints/llava-7b-pretrain-projector-v0.pth",
    parts=["connector"],
)
