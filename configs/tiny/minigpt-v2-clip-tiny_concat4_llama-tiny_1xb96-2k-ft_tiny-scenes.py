"""Tiny MiniGPT-v2: four neighbouring tokens become one.

Reproduces: the parts of MiniGPT-v2 in the small; the connector starts from scratch.
Command: tools/train.py configs/tiny/minigpt-v2-clip-tiny_concat4_llama-tiny_1xb96-2k-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = "./llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py"

chat_template = dict(_delete_=True, type="minigpt_v2")
model = dict(
    connector=dict(
        _delete_=True, type="TokenConcatConnector", group=4, select_layers=[-1]
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
