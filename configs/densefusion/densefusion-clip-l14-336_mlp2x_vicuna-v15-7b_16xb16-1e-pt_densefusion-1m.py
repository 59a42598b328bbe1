"""LLaVA-1.5 7B with DenseFusion, stage 1 (pre-alignment): only the connector learns.

Reproduces: the authors' script prealign.sh.
Paper: Li et al., "DenseFusion-1M: Merging Vision Experts for Comprehensive Multimodal
Perception", NeurIPS 2024 Datasets and Benchmarks, arXiv 2407.08303.
Command: tools/dist_train.sh configs/densefusion/densefusion-clip-l14-336_mlp2x_vicuna-v15-7b_16xb16-1e-pt_densefusion-1m.py 16
Hardware: sized for 2 nodes of 8 GPUs of 80 GB (the authors: 16 x A100 of 40 GB, 15 h in all).
Expected: weights for the next stage; no benchmark is scored here. Ours: not measured.
"""

_base_ = [
    "../_base_/models/llava-clip-l14-336_mlp2x_vicuna-v15-7b.py",
    "../_base_/datasets/densefusion_1m.py",
    "../_base_/schedules/llava_pretrain.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero3.py",
]

model = dict(
    train_parts=dict(vision_encoder=False, connector=True, language_model=False)
)
default_hooks = dict(checkpoint=dict(trainable_only=True))
