"""Ablation: MMFuser with a fifth of the learning rate, as its 13B recipe has a lower one.

Reproduces: the fuser's own learning rate in the small, arXiv 2410.11829.
Command: tools/train.py configs/ablations/tiny_scenes/llava-clip-tiny-l6_mmfuser-fuser-lr_llama-tiny_1xb96-800i-ft_tiny-scenes-fine.py
Hardware: sized for 2 CPU cores.
Expected: 74.0 % of coarse and 43.1 % of fine questions, one seed.
"""

_base_ = ["llava-clip-tiny-l6_mmfuser_llama-tiny_1xb96-800i-ft_tiny-scenes-fine.py"]

optim_wrapper = dict(paramwise_cfg=dict(parts={"connector.fuser": dict(lr=6e-4)}))
