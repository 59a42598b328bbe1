"""Ablation: the second layer of the tower in place of the last but one.

Reproduces: nothing; tells what a shallow layer holds alone.
Command: tools/train.py configs/ablations/tiny_scenes/llava-clip-tiny-l6_mlp2x-shallow_llama-tiny_1xb96-800i-ft_tiny-scenes-fine.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = ["llava-clip-tiny-l6_mlp2x_llama-tiny_1xb96-800i-ft_tiny-scenes-fine.py"]

model = dict(connector=dict(select_layers=[2]))
