"""Shikra-7B, stage 2: dialogues and grounded reasoning.

Reproduces: config/shikra_pretrain_final55_stage2.py, as far as data are public.
Paper: Chen et al., "Shikra: Unleashing Multimodal LLM's Referential Dialogue Magic",
2023, arXiv 2306.15195.
Command: tools/dist_train.sh configs/shikra/shikra-clip-l14-224_linear_vicuna-7b_8xb8-3e-ft_shikra-instruct.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/shikra-clip-l14-224_linear_vicuna-7b.py",
    "../_base_/datasets/shikra_instruct.py",
    "../_base_/schedules/llava_finetune.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/fsdp.py",
]

base_batch_size = 64
train_cfg = dict(max_epochs=3)
optim_wrapper = dict(clip_grad=dict(_delete_=True, max_norm=1.0))
load_from = dict(
    _delete_=True,
    path="work_dirs/shikra-clip-l14-224_linear_vicuna-7b_8xb8-2e-ft_shikra-tasks",
)
