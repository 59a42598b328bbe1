"""Tiny Qwen-VL with boxes: thousandths between tags, a resampler of 16 queries.

Reproduces: Qwen-VL's connector, box syntax and verdicts in the small.
Command: tools/train.py configs/tiny/qwen-vl-clip-tiny_resampler-q16_llama-tiny_1xb48-600i-ft_tiny-scenes-referring.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = ["./shikra-clip-tiny_linear_llama-tiny_1xb48-600i-ft_tiny-scenes-referring.py"]

codec = dict(type="QwenVLCodec")
model = dict(
    connector=dict(
        _delete_=True,
        type="ResamplerConnector",
        grid=4,
        heads=4,
        post_proj="matrix",
        select_layers=[-2],
    ),
)
processor = dict(views=dict(type="ResizeSquare"), codec=dict(_delete_=True, **codec))
comprehension = dict(_base_.comprehension, answer="<boxes>", repeat_phrase=True)
train_dataloader = dict(
    dataset=dict(task=dict(tasks=[comprehension, _base_.generation]))
)
test_dataloader = dict(dataset=dict(task=comprehension))
test_evaluator = dict(rule="qwen_vl")
