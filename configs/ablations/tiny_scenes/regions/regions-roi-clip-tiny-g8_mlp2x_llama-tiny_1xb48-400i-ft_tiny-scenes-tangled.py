"""How to show a region: features cut out of its box.

Reproduces: GPT4RoI's region encoder on two layers.
Command: tools/train.py configs/ablations/tiny_scenes/regions/regions-roi-clip-tiny-g8_mlp2x_llama-tiny_1xb48-400i-ft_tiny-scenes-tangled.py
Hardware: sized for 2 CPU cores.
Expected: 40.0 +- 9.5 % of the colours of free forms,
40.0 +- 9.5 of bare boxes, three seeds.
"""

_base_ = "./regions-sampler-clip-tiny-g8_mlp2x_llama-tiny_1xb48-400i-ft_tiny-scenes-tangled.py"

model = dict(
    connectors=dict(
        region_encoder=dict(
            _delete_=True,
            type="MultiLevelRoI",
            select_layers=[-3, -2],
            roi_size=4,
            hidden_width=128,
            place_width=32,
            num_rounds=2,
            num_groups=8,
            random_init=True,
        )
    )
)
