"""LLaVA-1.5 7B, stage 2 with LoRA: rank 128 on every linear layer of the language model.

Reproduces: the official recipe of LLaVA-1.5.
Paper: Liu et al., "Improved Baselines with Visual Instruction Tuning", CVPR 2024,
arXiv 2310.03744.
Command: tools/dist_train.sh configs/llava/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft-lora_llava-665k.py 8
Hardware: sized for 8 GPUs of 40 GB.
Published by the authors: VQAv2 79.1, GQA 63.0, TextVQA 58.2, POPE 86.4, MME 1476.9.
Ours: not measured.
"""

_base_ = [
    "../_base_/models/llava-clip-l14-336_mlp2x_vicuna-v15-7b.py",
    "../_base_/datasets/llava_665k.py",
    "../_base_/schedules/llava_finetune_lora.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero3.py",
]

model = dict(
    language_model=dict(
        lora=dict(r=128, alpha=256, dropout=0.05, target_modules="all-linear")
    ),
    train_parts=dict(vision_encoder=False, connector=True, language_model="lora"),
)
default_hooks = dict(checkpoint=dict(trainable_only=True))
load_from = dict(
    _delete_=True,
    path="work_dirs/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb32-1e-pt_llava-558k",
    parts=["connector"],
)
