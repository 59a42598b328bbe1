"""Tiny MMFuser: the deep layer looks for details in three shallower ones.

Reproduces: MMFuser's connector on LLaVA's recipe, in the small; the connector
starts from scratch.
Command: tools/train.py configs/tiny/mmfuser-clip-tiny_mmfuser_llama-tiny_1xb96-2k-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = "./llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py"

model = dict(
    connector=dict(
        _delete_=True,
        type="FusedConnector",
        fuser=dict(type="MMFuser", select_layers=[0, 1, 2, 3]),
        projector=dict(type="MLPConnector", depth=2, act="gelu"),
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
