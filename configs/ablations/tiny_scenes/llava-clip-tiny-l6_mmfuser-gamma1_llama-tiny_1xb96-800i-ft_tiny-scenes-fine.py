"""Ablation: MMFuser whose gates start open, at one instead of zero.

Reproduces: nothing; tells whether the gates open too late for a short training.
Command: tools/train.py configs/ablations/tiny_scenes/llava-clip-tiny-l6_mmfuser-gamma1_llama-tiny_1xb96-800i-ft_tiny-scenes-fine.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = ["llava-clip-tiny-l6_mmfuser_llama-tiny_1xb96-800i-ft_tiny-scenes-fine.py"]

model = dict(connector=dict(fuser=dict(gamma_init=1.0)))
