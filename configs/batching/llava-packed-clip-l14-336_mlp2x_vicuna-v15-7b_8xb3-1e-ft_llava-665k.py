"""LLaVA-1.5 7B, stage 2, on packs of 4096 tokens.

Reproduces: the recipe of LLaVA-1.5 with three packs per GPU and step. 24 packs hold
100 to 130 samples, near the 128 that the learning rate was chosen for.
Paper: Liu et al., "Improved Baselines with Visual Instruction Tuning", CVPR 2024,
arXiv 2310.03744.
Command: tools/dist_train.sh configs/batching/llava-packed-clip-l14-336_mlp2x_vicuna-v15-7b_8xb3-1e-ft_llava-665k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: not measured.
"""

_base_ = ["../llava/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft_llava-665k.py"]

train_dataloader = dict(
    batch_size=3,
    sampler=dict(_delete_=True, type="PackedBatchSampler", pack_length=4096),
)
# In packs, as batch_size is.
base_batch_size = 24
