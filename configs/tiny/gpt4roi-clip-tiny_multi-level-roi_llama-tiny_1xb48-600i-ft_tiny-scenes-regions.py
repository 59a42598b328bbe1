"""Tiny GPT4RoI: boxes are named by RoI features of two layers.

Reproduces: GPT4RoI's second stage in the small, from the demo's tiny LLaVA as the paper's
is from LLaVA. In the tangled style, where two things share a box, it could reach no more
than one half.
Command: tools/train.py configs/tiny/gpt4roi-clip-tiny_multi-level-roi_llama-tiny_1xb48-600i-ft_tiny-scenes-regions.py
Hardware: sized for 2 CPU cores.
Expected: 93.8 % of 400 names, blind 0.8 %, 3 CPU minutes.
"""

_base_ = [
    "../_base_/models/llava-clip-tiny_mlp2x_llama-tiny.py",
    "../_base_/datasets/tiny_scenes_regions.py",
    "../_base_/schedules/tiny.py",
    "../_base_/tiny_from_demo.py",
]

tokenizer = dict(codec=dict(type="RegionTokenCodec", token="<bbox>"))
model = dict(
    connectors=dict(
        region_encoder=dict(
            type="MultiLevelRoI",
            select_layers=[-3, -2],
            roi_size=4,
            hidden_width=128,
            place_width=32,
            num_rounds=2,
            num_groups=8,
            random_init=True,
        )
    ),
    train_parts=dict(
        vision_encoder=False, connector=True, region_encoder=True, language_model=True
    ),
)
base_batch_size = 48
train_cfg = dict(max_iters=600)
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=0.1))
