"""Ferret 7B: projector, sampler and language model learn from GRIT.

Reproduces: the official script, experiments/ferret_7b_train.sh.
Paper: You et al., "Ferret: Refer and Ground Anything Anywhere at Any Granularity",
ICLR 2024, arXiv 2310.07704.
Command: tools/dist_train.sh configs/ferret/ferret-clip-l14-336_sampler_vicuna-v13-7b_8xb16-3e-ft_grit.py 8
Hardware: sized for 8 GPUs of 80 GB.
Published by the authors: RefCOCO 87.49 / 91.35 / 82.45, LVIS 67.9 / 79.4 / 69.8 (point,
box, free form). Ours: not measured.
"""

_base_ = [
    "../_base_/models/ferret-clip-l14-336_linear_vicuna-v13-7b.py",
    "../_base_/datasets/ferret_grit.py",
    "../_base_/schedules/llava_finetune.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/fsdp.py",
]

model = dict(
    train_parts=dict(
        vision_encoder=False, connector=True, region_encoder=True, language_model=True
    )
)
train_cfg = dict(max_epochs=3)
load_from = dict(
    _delete_=True,
    path="checkpoints/llava-336px-pretrain-vicuna-7b-v1.3.pth",
    parts=["connector"],
)
