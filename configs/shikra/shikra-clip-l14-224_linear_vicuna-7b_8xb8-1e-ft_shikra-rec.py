"""Shikra-7B, stage 0: boxes of expressions.

Reproduces: config/shikra_pretrain_concat3_stage0.py.
Paper: Chen et al., "Shikra: Unleashing Multimodal LLM's Referential Dialogue Magic",
2023, arXiv 2306.15195.
Command: tools/dist_train.sh configs/shikra/shikra-clip-l14-224_linear_vicuna-7b_8xb8-1e-ft_shikra-rec.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/shikra-clip-l14-224_linear_vicuna-7b.py",
    "../_base_/datasets/shikra_rec.py",
    "../_base_/schedules/llava_finetune.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/fsdp.py",
]

model = dict(connector=dict(random_init=True))
base_batch_size = 64
train_cfg = dict(max_epochs=1)
optim_wrapper = dict(clip_grad=dict(_delete_=True, max_norm=1.0))
