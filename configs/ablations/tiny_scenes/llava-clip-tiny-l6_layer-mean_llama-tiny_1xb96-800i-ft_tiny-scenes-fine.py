"""Ablation: five layers averaged with learned weights, then the MLP.

Reproduces: a naive fusion baseline of MMFuser's ablation, arXiv 2410.11829.
Command: tools/train.py configs/ablations/tiny_scenes/llava-clip-tiny-l6_layer-mean_llama-tiny_1xb96-800i-ft_tiny-scenes-fine.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = ["llava-clip-tiny-l6_mlp2x_llama-tiny_1xb96-800i-ft_tiny-scenes-fine.py"]

model = dict(
    connector=dict(
        _delete_=True,
        type="FusedConnector",
        fuser=dict(type="LayerMeanFuser", select_layers=[1, 2, 3, 4, -2], learned=True),
        projector=dict(type="MLPConnector", depth=2),
    )
)
