"""Ablation: INF-LLaVA, blocks and samplings of the image at twice the tower's size.

Reproduces: INF-LLaVA's fusion in the small, arXiv 2407.16198.
Command: tools/train.py configs/ablations/tiny_scenes/llava-clip-tiny-l6_dual-n2_llama-tiny_1xb96-800i-ft_tiny-scenes-fine.py
Hardware: sized for 2 CPU cores.
Expected: 84.9 % of coarse and 53.1 % of fine questions, three seeds.
"""

_base_ = ["llava-clip-tiny-l6_mlp2x_llama-tiny_1xb96-800i-ft_tiny-scenes-fine.py"]

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
            dict(type="DualPerspectiveViews"),
            dict(type="EncodeConversation", max_length=512),
            dict(type="PackVLMInputs"),
        ]
    )
)
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImages"),
            dict(type="DualPerspectiveViews"),
            dict(type="EncodeConversation", mode="generate"),
            dict(type="PackVLMInputs"),
        ]
    )
)
