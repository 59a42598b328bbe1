"""Tiny mPLUG-Owl: an abstractor of 16 queries and an end token.

Reproduces: the parts of mPLUG-Owl in the small; the connector starts from scratch.
Command: tools/train.py configs/tiny/mplug-owl-clip-tiny_abstractor-q16_llama-tiny_1xb96-2k-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = "./llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py"

chat_template = dict(_delete_=True, type="mplug_owl", system="")
model = dict(
    connector=dict(
        _delete_=True,
        type="AbstractorConnector",
        num_queries=16,
        num_layers=3,
        num_heads=4,
        intermediate_size=512,
        select_layers=[-1],
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
