"""LLaVA-1.5 7B, stage 1: only the connector learns, from captions.

Reproduces: the official recipe of LLaVA-1.5.
Paper: Liu et al., "Improved Baselines with Visual Instruction Tuning", CVPR 2024,
arXiv 2310.03744.
Command: tools/dist_train.sh configs/llava/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb32-1e-pt_llava-558k.py 8
Hardware: sized for 8 GPUs of 80 GB (the authors: 3.5 h on 8 x A100).
Expected: a connector for stage 2; no benchmark is scored here. Ours: not measured.
"""

_base_ = [
    "../_base_/models/llava-clip-l14-336_mlp2x_vicuna-v15-7b.py",
    "../_base_/datasets/llava_558k.py",
    "../_base_/schedules/llava_pretrain.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero2.py",
]

model = dict(
    train_parts=dict(vision_encoder=False, connector=True, language_model=False)
)
default_hooks = dict(checkpoint=dict(trainable_only=True))
