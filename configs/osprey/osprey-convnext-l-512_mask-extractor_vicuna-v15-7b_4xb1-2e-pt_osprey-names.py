"""Osprey 7B, stage 2: the mask extractor learns to name masks, alone.

Reproduces: the official script, scripts/stage2.sh.
Paper: Yuan et al., "Osprey: Pixel Understanding with Visual Instruction Tuning",
CVPR 2024, arXiv 2312.10032.
Command: tools/dist_train.sh configs/osprey/osprey-convnext-l-512_mask-extractor_vicuna-v15-7b_4xb1-2e-pt_osprey-names.py 4
Hardware: sized for 4 GPUs of 80 GB.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/osprey-convnext-l-512_mlp2x_vicuna-v15-7b.py",
    "../_base_/datasets/osprey_names.py",
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
optim_wrapper = dict(clip_grad=dict(_delete_=True, max_norm=1.0))
default_hooks = dict(checkpoint=dict(trainable_only=True))
load_from = dict(
    _delete_=True,
    path="checkpoints/osprey-7b-pretrain-projector.pth",
    parts=["connector"],
)
