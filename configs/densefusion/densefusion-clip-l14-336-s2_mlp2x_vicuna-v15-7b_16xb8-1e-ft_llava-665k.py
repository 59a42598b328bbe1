"""LLaVA-1.5 7B with S2 and DenseFusion, stage 3 (instructions): three scales, 1008 pixels.

Reproduces: the authors' script finetune_s2.sh.
Paper: Li et al., "DenseFusion-1M: Merging Vision Experts for Comprehensive Multimodal
Perception", NeurIPS 2024 Datasets and Benchmarks, arXiv 2407.08303.
Command: tools/dist_train.sh configs/densefusion/densefusion-clip-l14-336-s2_mlp2x_vicuna-v15-7b_16xb8-1e-ft_llava-665k.py 16
Hardware: sized for 2 nodes of 8 GPUs of 80 GB (the authors: 16 x A100 of 40 GB, 15 h in all).
Published by the authors: VQAv2 81.6, GQA 65.3, TextVQA 67.4, POPE 87.2, MME 1551.
Ours: not measured.
"""

_base_ = "densefusion-clip-l14-336_mlp2x_vicuna-v15-7b_16xb8-1e-ft_llava-665k.py"

model = dict(
    vision_encoder=dict(
        _delete_=True,
        type="S2VisionEncoder",
        encoder={{_base_.model.vision_encoder}},
        scales=(336, 672, 1008),
    ),
)
load_from = dict(
    path="work_dirs/densefusion-clip-l14-336-s2_mlp2x_vicuna-v15-7b_16xb8-1e-ft_densefusion-1m"
)
