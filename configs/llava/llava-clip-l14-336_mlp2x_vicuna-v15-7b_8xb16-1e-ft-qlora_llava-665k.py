"""LLaVA-1.5 7B, stage 2 with QLoRA: the LoRA recipe over 4-bit weights.

Reproduces: no published score; LLaVA's option of 4 bits on its LoRA recipe.
Paper: Liu et al., "Improved Baselines with Visual Instruction Tuning", CVPR 2024,
arXiv 2310.03744.
Command: tools/dist_train.sh configs/llava/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft-qlora_llava-665k.py 8
Hardware: sized for 8 GPUs of 24 GB.
Expected: not measured.
"""

_base_ = ["./llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft-lora_llava-665k.py"]

model = dict(language_model=dict(quantization=dict(bits=4)))
