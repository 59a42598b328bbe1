"""How to show a region: the mean of the features under it.

Reproduces: the baseline of Ferret's sampler.
Command: tools/train.py configs/ablations/tiny_scenes/regions/regions-mean-clip-tiny-g8_mlp2x_llama-tiny_1xb48-400i-ft_tiny-scenes-tangled.py
Hardware: sized for 2 CPU cores.
Expected: 90.7 +- 3.4 % of the colours of free forms,
49.2 +- 1.0 of bare boxes, three seeds.
"""

_base_ = "./regions-sampler-clip-tiny-g8_mlp2x_llama-tiny_1xb48-400i-ft_tiny-scenes-tangled.py"

model = dict(
    connectors=dict(
        region_encoder=dict(
            _delete_=True,
            type="MaskMeanPool",
            num_points=64,
            coord_order="xy",
            select_layers=[-2],
            random_init=True,
        )
    )
)
