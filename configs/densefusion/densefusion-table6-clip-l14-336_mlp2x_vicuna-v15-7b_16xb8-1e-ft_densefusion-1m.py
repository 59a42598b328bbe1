"""LLaVA-1.5 7B with DenseFusion, stage 2 (pre-training), with the values of the paper's table.

Reproduces: Table 6 of the paper, which differs from the authors' script pretrain.sh:
warm-up 0.01.
Paper: Li et al., "DenseFusion-1M: Merging Vision Experts for Comprehensive Multimodal
Perception", NeurIPS 2024 Datasets and Benchmarks, arXiv 2407.08303.
Command: tools/dist_train.sh configs/densefusion/densefusion-table6-clip-l14-336_mlp2x_vicuna-v15-7b_16xb8-1e-ft_densefusion-1m.py 16
Hardware: sized for 2 nodes of 8 GPUs of 80 GB (the authors: 16 x A100 of 40 GB, 15 h in all).
Expected: not measured.
"""

_base_ = "densefusion-clip-l14-336_mlp2x_vicuna-v15-7b_16xb8-1e-ft_densefusion-1m.py"

param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.01)]
load_from = dict(
    path="work_dirs/densefusion-table6-clip-l14-336_mlp2x_vicuna-v15-7b_16xb16-1e-pt_densefusion-1m"
)
