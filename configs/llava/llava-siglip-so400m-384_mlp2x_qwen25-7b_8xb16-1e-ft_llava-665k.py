"""LLaVA with SigLIP-so400m and Qwen2.5-7B-Instruct, stage 2: connector and language model learn from instructions.

Reproduces: no published run; LLaVA-1.5's recipe with other towers.
Paper: Liu et al., "Improved Baselines with Visual Instruction Tuning", CVPR 2024,
arXiv 2310.03744.
Command: tools/dist_train.sh configs/llava/llava-siglip-so400m-384_mlp2x_qwen25-7b_8xb16-1e-ft_llava-665k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/llava-siglip-so400m-384_mlp2x_qwen25-7b.py",
    "../_base_/datasets/llava_665k.py",
    "../_base_/schedules/llava_finetune.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero3.py",
]

model = dict(
    train_parts=dict(vision_encoder=False, connector=True, language_model=True)
)
chat_template = "qwen"
load_from = dict(
    _delete_=True,
    path="work_dirs/llava-siglip-so400m-384_mlp2x_qwen25-7b_8xb32-1e-pt_llava-558k",
    parts=["connector"],
)
