"""LLaVA-1.5 7B, stage 2 with QLoRA: the LoRA recipe over 4-bit weights.

Reproduces: no published score; LLaVA's option of 4 bits on its LoRA recipe.
Paper: Liu et al., "Improved Baselines with Visual Instruction Tuning", CVPR 2024,
arXiv 2310.03744.
Command: tools/dist_train.sh configs/llava/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft-qlora_llava-665k.py 8
Hardware: sized for 8 GPUs of 40 GB.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/llava-clip-l14-336_mlp2x_vicuna-v15-7b.py",
    "../_base_/datasets/llava_665k.py",
    "../_base_/schedules/llava_finetune_lora.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/ddp.py",
]

model = dict(
    language_model=dict(
        lora=dict(r=128, alpha=256, dropout=0.05, target_modules="all-linear"),
        quantization=dict(bits=4),
    ),
    train_parts=dict(vision_encoder=False, connector=True, language_model="lora"),
)
default_hooks = dict(checkpoint=dict(trainable_only=True))
load_from = dict(
    _delete_=True,
    path="work_dirs/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb32-1e-pt_llava-558k",
    parts=["connector"],
)
