"""Tiny PINK: bottlenecks in both towers.

Reproduces: PINK's syntax, adapters and verdicts in the small; all of the tiny language
model learns besides, as its numbers are others.
Command: tools/train.py configs/tiny/pink-clip-tiny_linear_llama-tiny_1xb48-500i-ft_tiny-scenes-referring.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = ["./shikra-clip-tiny_linear_llama-tiny_1xb48-600i-ft_tiny-scenes-referring.py"]

# Without PINK's tags, behind which the tokenizer writes words in other tokens than those
# that the language model knows.
codec = dict(type="PinkCodec", add_marks=False)
model = dict(
    vision_encoder=dict(
        _delete_=True,
        type="AdaptedVisionEncoder",
        vision_encoder={{_base_.model.vision_encoder}},
        hidden=8,
        dropout=0.0,
    ),
    language_model=dict(
        adapters=[dict(type="BottleneckAdapter", hidden=8, dropout=0.0)],
    ),
    train_parts=dict(vision_encoder="adapters"),
)
processor = dict(views=dict(type="ResizeSquare"), codec=dict(_delete_=True, **codec))
comprehension = dict(_base_.comprehension, answer="<boxes>")
train_dataloader = dict(
    dataset=dict(task=dict(tasks=[comprehension, _base_.generation]))
)
test_dataloader = dict(dataset=dict(task=comprehension))
test_evaluator = dict(rule="pink")
train_cfg = dict(max_iters=500)
