"""How to show a region: Osprey's mask extractor.

Reproduces: Osprey's two tokens per region, on the hidden states of a CLIP.
Command: tools/train.py configs/ablations/tiny_scenes/regions/regions-extractor-clip-tiny-g8_mlp2x_llama-tiny_1xb48-400i-ft_tiny-scenes-tangled.py
Hardware: sized for 2 CPU cores.
Expected: 88.8 +- 1.4 % of the colours of free forms,
49.9 +- 0.1 of bare boxes, three seeds.
"""

_base_ = "./regions-sampler-clip-tiny-g8_mlp2x_llama-tiny_1xb48-400i-ft_tiny-scenes-tangled.py"

model = dict(
    connectors=dict(
        region_encoder=dict(
            _delete_=True,
            type="MaskExtractor",
            mask_side=24,
            place_side=12,
            hidden_width=128,
            select_layers=[-3, -2],
            random_init=True,
        )
    )
)
