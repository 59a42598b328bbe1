"""How to show a region: its coordinates in the text.

Reproduces: Ferret without region features: numbers of box or point.
Command: tools/train.py configs/ablations/tiny_scenes/regions/regions-coordinates-clip-tiny-g8_mlp2x_llama-tiny_1xb48-400i-ft_tiny-scenes-tangled.py
Hardware: sized for 2 CPU cores.
Expected: 35.9 +- 4.8 % of the colours of free forms,
35.9 +- 4.8 of bare boxes, three seeds.
"""

_base_ = "./regions-sampler-clip-tiny-g8_mlp2x_llama-tiny_1xb48-400i-ft_tiny-scenes-tangled.py"

processor = dict(codec=dict(_delete_=True, type="FerretCodec", feature_token=None))
model = dict(connectors=dict(_delete_=True))
