"""Pretrain the tiny language model on TinyScenes text, next token by next token.

Reproduces: nothing; gives stage 1 a frozen model that answers from descriptions.
Command: tools/train.py configs/tiny/text_none_llama-tiny_1xb64-600i-pt_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: a training loss of 0.15 at the end.
"""

_base_ = [
    "../_base_/models/llava-clip-tiny_mlp2x_llama-tiny.py",
    "../_base_/datasets/tiny_scenes.py",
    "../_base_/schedules/tiny.py",
    "../_base_/default_runtime.py",
]

model = dict(vision_encoder=None, connector=None)
train_dataloader = dict(
    batch_size=64,
    dataset=dict(
        name="tiny-scenes-text",
        ann_file="text.json",
        pipeline=[
            dict(type="EncodeConversation", max_length=512),
            dict(type="PackVLMInputs"),
        ],
    ),
)
test_dataloader = None
test_cfg = None
test_evaluator = None
train_cfg = dict(max_iters=600)
optim_wrapper = dict(optimizer=dict(lr=3e-3))
base_batch_size = 64
