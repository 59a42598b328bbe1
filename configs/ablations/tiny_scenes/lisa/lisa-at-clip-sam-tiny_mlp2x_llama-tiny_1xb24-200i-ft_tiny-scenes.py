"""LISA in the small: the state of [SEG] itself is read.

Reproduces: Sa2VA's place of the state, with LISA's head.
Command: tools/train.py configs/ablations/tiny_scenes/lisa/lisa-at-clip-sam-tiny_mlp2x_llama-tiny_1xb24-200i-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: a gIoU of 0.38 +- 0.02, three seeds.
"""

_base_ = "./lisa-all-clip-sam-tiny_mlp2x_llama-tiny_1xb24-200i-ft_tiny-scenes.py"

model = dict(heads=dict(mask=dict(position="at")))
