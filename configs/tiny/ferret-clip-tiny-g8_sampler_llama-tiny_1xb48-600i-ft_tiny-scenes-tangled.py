"""Tiny Ferret: regions that share a box are named by their pixels.

Reproduces: Ferret's region encoder in the small. As Ferret starts from LLaVA's first stage,
this one starts from the demo's tiny LLaVA, of 48 pixels, whose tower sees the 96 of these
images as a grid of 8 x 8 (it interpolates its positions) and learns, too.
Command: tools/train.py configs/tiny/ferret-clip-tiny-g8_sampler_llama-tiny_1xb48-600i-ft_tiny-scenes-tangled.py
Hardware: sized for 2 CPU cores.
Expected: 93.3 % of 400 names, blind 2.3 %, 7 CPU minutes.
"""

_base_ = [
    "../_base_/models/ferret-clip-tiny_sampler_llama-tiny.py",
    "../_base_/datasets/tiny_scenes_tangled.py",
    "../_base_/schedules/tiny.py",
    "../_base_/tiny_from_demo.py",
]

tokenizer = dict(codec=dict(type="FerretCodec"))
base_batch_size = 48
train_cfg = dict(max_iters=600)
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=0.1))
