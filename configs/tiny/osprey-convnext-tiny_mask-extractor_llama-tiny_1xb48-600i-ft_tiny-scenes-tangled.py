"""Tiny Osprey: regions that share a box are named by what lies under their mask.

Reproduces: Osprey's encoder and mask extractor in the small. Tower, connector and extractor
learn from nothing, the language model starts as that of the demo's tiny LLaVA.
Command: tools/train.py configs/tiny/osprey-convnext-tiny_mask-extractor_llama-tiny_1xb48-600i-ft_tiny-scenes-tangled.py
Hardware: sized for 2 CPU cores.
Expected: 95.8 % of 400 names, blind 17.8 % (a mask's outline tells), 5 CPU minutes.
"""

_base_ = [
    "../_base_/models/osprey-convnext-tiny_mlp2x_llama-tiny.py",
    "../_base_/datasets/tiny_scenes_tangled.py",
    "../_base_/schedules/tiny.py",
    "../_base_/default_runtime.py",
]

codec = dict(type="RegionTokenCodec", token="<mask>")
before = [dict(type="LoadImages"), dict(type="ResizeSquare")]
write = dict(type="WriteRegions", codec=codec)
tokenizer = dict(codec=codec)
train_dataloader = dict(
    dataset=dict(
        point_share=0.0,
        pipeline=[
            *before,
            write,
            dict(type="PrepareRegions"),
            dict(type="EncodeConversation", max_length=512),
            dict(type="PackVLMInputs"),
        ],
    )
)
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            *before,
            write,
            dict(type="PrepareRegions", mode="generate"),
            dict(type="EncodeConversation", mode="generate"),
            dict(type="PackVLMInputs"),
        ]
    )
)
base_batch_size = 48
train_cfg = dict(max_iters=600)
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=0.1))
load_from = [
    dict(
        path="work_dirs/llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes",
        parts=["language_model"],
    ),
]
