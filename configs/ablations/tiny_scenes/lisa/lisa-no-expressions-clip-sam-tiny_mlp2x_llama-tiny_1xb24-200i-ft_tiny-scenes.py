"""LISA in the small: without referring expressions.

Reproduces: a row of LISA's table of training data.
Command: tools/train.py configs/ablations/tiny_scenes/lisa/lisa-no-expressions-clip-sam-tiny_mlp2x_llama-tiny_1xb24-200i-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: a gIoU of 0.29 +- 0.03, three seeds.
"""

_base_ = "./lisa-all-clip-sam-tiny_mlp2x_llama-tiny_1xb24-200i-ft_tiny-scenes.py"

sources = _base_.train_dataloader.dataset.datasets
train_dataloader = dict(
    dataset=dict(datasets=[sources[i] for i in (0, 2, 3)], weights=[9, 3, 1])
)
