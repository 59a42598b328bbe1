"""Tiny InstructBLIP: the Q-Former reads the question.

Reproduces: the parts of InstructBLIP in the small; the connector starts from scratch.
Command: tools/train.py configs/tiny/instructblip-clip-tiny_qformer-q16_llama-tiny_1xb96-2k-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = "./llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py"

chat_template = dict(_delete_=True, type="instructblip")
words = dict(type="HFTokenizer", name_or_path="data/tiny_scenes/tokenizer")
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
        instruction_aware=True,
        vocab_size=640,
        select_layers=[-1],
    )
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImages"),
            dict(type="ResizeSquare"),
            # Eight questions share an image here; all of them are read.
            dict(type="TokenizeInstructions", tokenizer=words, turns="all"),
            dict(type="EncodeConversation", max_length=512),
            dict(type="PackVLMInputs"),
        ]
    )
)
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImages"),
            dict(type="ResizeSquare"),
            dict(type="TokenizeInstructions", tokenizer=words, turns="all"),
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
