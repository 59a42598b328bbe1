"""LISA in the small: without questions that are answered in words.

Reproduces: a row of LISA's table of training data.
Command: tools/train.py configs/ablations/tiny_scenes/lisa/lisa-no-questions-clip-sam-tiny_mlp2x_llama-tiny_1xb24-200i-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: a gIoU of 0.38 +- 0.02, three seeds.
"""

_base_ = "./lisa-all-clip-sam-tiny_mlp2x_llama-tiny_1xb24-200i-ft_tiny-scenes.py"

sources = _base_.train_dataloader.dataset.datasets
train_dataloader = dict(
    dataset=dict(datasets=[sources[i] for i in (0, 1, 3)], weights=[9, 3, 1])
)
