"""Tiny LLaVA-NeXT: tiles of the image at twice the resolution, joined by rows.

Reproduces: LLaVA-NeXT's recipe in the small.
Command: tools/train.py configs/tiny/llava-next-clip-tiny_anyres-mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = ["./llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py"]

model = dict(
    connector=dict(
        _delete_=True,
        type="AnyResConnector",
        connector=dict(type="MLPConnector", depth=2, act="gelu", select_layers=[-2]),
        unpad=True,
    ),
    train_parts=dict(vision_encoder=True),
)
_tilings = [(2, 1), (1, 2), (2, 2)]
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImages"),
            dict(type="AnyResTiles", tilings=_tilings),
            dict(type="EncodeConversation", max_length=512),
            dict(type="PackVLMInputs"),
        ]
    )
)
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImages"),
            dict(type="AnyResTiles", tilings=_tilings),
            dict(type="EncodeConversation", mode="generate"),
            dict(type="PackVLMInputs"),
        ]
    )
)
optim_wrapper = dict(paramwise_cfg=dict(parts=dict(vision_encoder=dict(lr=3e-4))))
load_from = [
    dict(
        path="work_dirs/clip-tiny_contrastive_none_1xb192-1600i-pt_tiny-scenes",
        parts=["vision_encoder"],
    ),
    dict(
        path="work_dirs/text_none_llama-tiny_1xb64-600i-pt_tiny-scenes",
        parts=["language_model"],
    ),
]
