"""How to show a region: Ferret's sampler, the parent.

Reproduces: Ferret's region encoder, without the coordinates beside it.
Command: tools/train.py configs/ablations/tiny_scenes/regions/regions-sampler-clip-tiny-g8_mlp2x_llama-tiny_1xb48-400i-ft_tiny-scenes-tangled.py
Hardware: sized for 2 CPU cores.
Expected: 92.0 +- 4.4 % of the colours of free forms,
49.8 +- 1.9 of bare boxes, three seeds.
"""

_base_ = [
    "../../../_base_/models/ferret-clip-tiny_sampler_llama-tiny.py",
    "../../../_base_/datasets/tiny_scenes_region_kinds.py",
    "../../../_base_/schedules/tiny.py",
    "../../../_base_/tiny_from_demo.py",
]

processor = dict(
    views=dict(type="ResizeSquare", size=96),
    codec=dict(type="RegionTokenCodec", token="<region_fea>"),
    max_length=512,
)
base_batch_size = 48
train_cfg = dict(max_iters=400)
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=0.1))
