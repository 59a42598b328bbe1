"""How to show a region: the image's own tokens under it.

Reproduces: Sa2VA's visual prompts.
Command: tools/train.py configs/ablations/tiny_scenes/regions/regions-tokens-clip-tiny-g8_masked-tokens_llama-tiny_1xb48-400i-ft_tiny-scenes-tangled.py
Hardware: sized for 2 CPU cores.
Expected: 97.2 +- 0.3 % of the colours of free forms,
49.8 +- 0.1 of bare boxes, three seeds.
"""

_base_ = "./regions-sampler-clip-tiny-g8_mlp2x_llama-tiny_1xb48-400i-ft_tiny-scenes-tangled.py"

model = dict(
    connector=dict(
        _delete_=True,
        type="MaskedTokens",
        view_size=96,
        connector=dict(type="MLPConnector", depth=2, act="gelu", select_layers=[-2]),
    ),
    connectors=dict(_delete_=True),
)
demo = "work_dirs/llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes"
load_from = [
    _base_.load_from[0],
    dict(path=demo, parts=["language_model"]),
    dict(path=demo, rename=dict(connector="connector.inner"), parts=["connector"]),
]
