"""Tiny MiniGPT-4: a Q-Former and MiniGPT-4's prompt.

Reproduces: the parts of MiniGPT-4 in the small; the connector starts from scratch.
Command: tools/train.py configs/tiny/minigpt4-clip-tiny_qformer-q16_llama-tiny_1xb96-2k-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = "./llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py"

chat_template = dict(_delete_=True, type="minigpt4")
model = dict(
    connector=dict(
        _delete_=True,
        type="QFormerConnector",
        num_queries=16,
        hidden_size=128,
        num_layers=4,
        num_heads=4,
        intermediate_size=512,
        dropout=0.0,
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
