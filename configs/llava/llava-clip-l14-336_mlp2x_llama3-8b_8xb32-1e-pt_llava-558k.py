"""LLaVA with Llama-3-8B-Instruct, stage 1: only the connector learns, from captions.

Reproduces: no published run; LLaVA-1.5's recipe with other towers.
Paper: Liu et al., "Improved Baselines with Visual Instruction Tuning", CVPR 2024,
arXiv 2310.03744.
Command: tools/dist_train.sh configs/llava/llava-clip-l14-336_mlp2x_llama3-8b_8xb32-1e-pt_llava-558k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: a connector for stage 2; no benchmark is scored here. Ours: not measured.
"""

_base_ = [
    "../_base_/models/llava-clip-l14-336_mlp2x_llama3-8b.py",
    "../_base_/datasets/llava_558k.py",
    "../_base_/schedules/llava_pretrain.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero2.py",
]

model = dict(
    train_parts=dict(vision_encoder=False, connector=True, language_model=False)
)
default_hooks = dict(checkpoint=dict(trainable_only=True))
