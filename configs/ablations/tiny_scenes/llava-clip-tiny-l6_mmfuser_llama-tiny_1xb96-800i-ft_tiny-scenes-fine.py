"""Ablation: MMFuser, the query layer samples details from four shallower ones.

Reproduces: MMFuser's connector in the small, arXiv 2410.11829.
Command: tools/train.py configs/ablations/tiny_scenes/llava-clip-tiny-l6_mmfuser_llama-tiny_1xb96-800i-ft_tiny-scenes-fine.py
Hardware: sized for 2 CPU cores.
Expected: 83.2 % of coarse and 47.2 % of fine questions, three seeds.
"""

_base_ = ["llava-clip-tiny-l6_mlp2x_llama-tiny_1xb96-800i-ft_tiny-scenes-fine.py"]

model = dict(
    connector=dict(
        _delete_=True,
        type="FusedConnector",
        fuser=dict(type="MMFuser", select_layers=[1, 2, 3, 4, -2], num_heads=4),
        projector=dict(type="MLPConnector", depth=2, act="gelu"),
    )
)
