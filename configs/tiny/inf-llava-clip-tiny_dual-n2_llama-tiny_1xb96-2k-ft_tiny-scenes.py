"""Tiny INF-LLaVA: scenes at twice the tower's size, as 2 x 2 blocks and samplings.

Reproduces: INF-LLaVA's stage 2 in the small, connector from scratch. Scenes of 48
pixels are drawn to 96, so that the tower, pretrained at 48, sees its own size.
Command: tools/train.py configs/tiny/inf-llava-clip-tiny_dual-n2_llama-tiny_1xb96-2k-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = "./llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py"

model = dict(
    connector=dict(
        _delete_=True,
        type="FusedConnector",
        fuser=dict(type="DualPerspectiveFuser", grid=2, select_layers=[-2]),
        projector=dict(type="MLPConnector", depth=2, act="gelu"),
    )
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImages"),
            dict(type="DualPerspectiveViews", pad=True),
            dict(type="EncodeConversation", max_length=512),
            dict(type="PackVLMInputs"),
        ]
    )
)
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImages"),
            dict(type="DualPerspectiveViews", pad=True),
            dict(type="EncodeConversation", mode="generate"),
            dict(type="PackVLMInputs"),
        ]
    )
)
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
