"""Tiny BLIP-2: a Q-Former that reads no question, frozen language model.

Reproduces: the parts and the trainable set of BLIP-2's stage 2 in the small; the connector starts from scratch.
Command: tools/train.py configs/tiny/blip2-clip-tiny_qformer-q16_llama-tiny_1xb96-2k-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = "./llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py"

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
    ),
    train_parts=dict(vision_encoder=False, connector=True, language_model=False),
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
