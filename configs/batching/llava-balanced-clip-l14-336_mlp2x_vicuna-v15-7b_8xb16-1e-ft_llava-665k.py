"""LLaVA-1.5 7B, stage 2, on balanced random batches instead of LLaVA's groups.

Reproduces: the recipe of LLaVA-1.5 with unbiased global batches of 128, dealt to the
ranks by exact token counts; loss and gradient are those of the undealt batch.
Paper: Liu et al., "Improved Baselines with Visual Instruction Tuning", CVPR 2024,
arXiv 2310.03744.
Command: tools/dist_train.sh configs/batching/llava-balanced-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft_llava-665k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: not measured.
"""

_base_ = ["../llava/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft_llava-665k.py"]

train_dataloader = dict(sampler=dict(_delete_=True, type="BalancedBatchSampler"))
