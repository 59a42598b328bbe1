"""GPT4RoI 7B, stage 2: region module, projector and language model learn to describe.

Reproduces: the official script, train_stage2.sh, without VCR and detector boxes.
Paper: Zhang et al., "GPT4RoI: Instruction Tuning Large Language Model on
Region-of-Interest", 2023, arXiv 2307.03601.
Command: tools/dist_train.sh configs/gpt4roi/gpt4roi-clip-l14-224_multi-level-roi_llama-7b_8xb2-2e-ft_region-instruct.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/gpt4roi-clip-l14-224_multi-level-roi_llama-7b.py",
    "../_base_/datasets/gpt4roi_descriptions.py",
    "../_base_/schedules/llava_finetune.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/fsdp.py",
]

model = dict(
    train_parts=dict(
        vision_encoder=False, connector=True, region_encoder=True, language_model=True
    )
)
base_batch_size = 16
train_cfg = dict(max_epochs=2)
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.03)]
load_from = [
    dict(
        path="checkpoints/llava-7b-pretrain-projector-v0.pth",
        parts=["connector"],
    ),
    dict(
        path="work_dirs/gpt4roi-clip-l14-224_multi-level-roi_llama-7b_4xb1-2e-pt_coco-refcoco",
        parts=["region_encoder"],
    ),
]
