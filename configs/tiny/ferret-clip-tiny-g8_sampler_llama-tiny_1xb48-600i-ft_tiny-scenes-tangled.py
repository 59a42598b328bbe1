"""Tiny Ferret: regions that share a box are named by their pixels.

Reproduces: Ferret's region encoder in the small. As Ferret starts from LLaVA's first stage,
this one starts from the demo's tiny LLaVA, of 48 pixels, whose tower sees the 96 of these
images as a grid of 8 x 8 (it interpolates its positions) and learns, too.
Command: tools/train.py configs/tiny/ferret-clip-tiny-g8_sampler_llama-tiny_1xb48-600i-ft_tiny-scenes-tangled.py
Hardware: sized for 2 CPU cores.
Expected: 93.3 % of 400 names, blind 2.3 %, 7 CPU minutes.
"""

_base_ = [
    "../_base_/models/llava-clip-tiny_mlp2x_llama-tiny.py",
    "../_base_/datasets/tiny_scenes_tangled.py",
    "../_base_/schedules/tiny.py",
    "../_base_/default_runtime.py",
]

tokenizer = dict(codec=dict(type="FerretCodec"))
model = dict(
    connectors=dict(
        region_encoder=dict(
            type="FerretSampler",
            num_points=64,
            num_sub_points=[16, 4],
            num_neighbours=[8, 4],
            coord_order="xy",  # nothing released asks for the mirrored places
            select_layers=[-2],
            random_init=True,
        )
    ),
)
base_batch_size = 48
train_cfg = dict(max_iters=600)
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=0.1))
load_from = [
    dict(
        path="work_dirs/clip-tiny_contrastive_none_1xb192-1600i-pt_tiny-scenes",
        parts=["vision_encoder"],
    ),
    dict(
        path="work_dirs/llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes",
        parts=["connector", "language_model"],
    ),
]
