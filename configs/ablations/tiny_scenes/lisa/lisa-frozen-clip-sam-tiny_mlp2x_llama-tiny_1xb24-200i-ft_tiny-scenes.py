"""LISA in the small: the mask decoder stays as SAM's pretraining left it.

Reproduces: LISA's comparison of what is trained; only the projection of states learns.
Command: tools/train.py configs/ablations/tiny_scenes/lisa/lisa-frozen-clip-sam-tiny_mlp2x_llama-tiny_1xb24-200i-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: a gIoU of 0.54 +- 0.07, three seeds.
"""

_base_ = "./lisa-all-clip-sam-tiny_mlp2x_llama-tiny_1xb24-200i-ft_tiny-scenes.py"

model = dict(train_parts=dict(mask=dict(_delete_=True, only=["projection"])))
