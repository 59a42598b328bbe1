"""Ablation: an MLP of three layers.

Reproduces: nothing; more depth, no more layers of the tower.
Command: tools/train.py configs/ablations/tiny_scenes/llava-clip-tiny-l6_mlp3x_llama-tiny_1xb96-800i-ft_tiny-scenes-fine.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = ["llava-clip-tiny-l6_mlp2x_llama-tiny_1xb96-800i-ft_tiny-scenes-fine.py"]

model = dict(connector=dict(depth=3))
