"""Osprey 7B, stage 3: all but the tower learns from conversations about masks.

Reproduces: the official script, scripts/stage3.sh, without VCR.
Paper: Yuan et al., "Osprey: Pixel Understanding with Visual Instruction Tuning",
CVPR 2024, arXiv 2312.10032.
Command: tools/dist_train.sh configs/osprey/osprey-convnext-l-512_mask-extractor_vicuna-v15-7b_4xb1-2e-ft_osprey-724k.py 4
Hardware: sized for 4 GPUs of 80 GB.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/osprey-convnext-l-512_mlp2x_vicuna-v15-7b.py",
    "../_base_/datasets/osprey_724k.py",
    "../_base_/schedules/llava_finetune.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/fsdp.py",
]

model = dict(
    train_parts=dict(
        vision_encoder=False, connector=True, region_encoder=True, language_model=True
    )
)
base_batch_size = 4
train_cfg = dict(max_epochs=2)
optim_wrapper = dict(
    optimizer=dict(lr=1e-5), clip_grad=dict(_delete_=True, max_norm=1.0)
)
load_from = [
    dict(
        path="checkpoints/osprey-7b-pretrain-projector.pth",
        parts=["connector"],
    ),
    dict(
        path="work_dirs/osprey-convnext-l-512_mask-extractor_vicuna-v15-7b_4xb1-2e-pt_osprey-names",
        parts=["region_encoder"],
    ),
]
