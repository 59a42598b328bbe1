"""Tiny Qwen-VL with boxes: thousandths between tags, a resampler of 16 queries.

Reproduces: Qwen-VL's connector, box syntax and verdicts in the small.
Command: tools/train.py configs/tiny/qwen-vl-clip-tiny_resampler-q16_llama-tiny_1xb48-1k-ft_tiny-scenes-referring.py
Hardware: sized for 2 CPU cores.
Expected: 71.5 % of 400 expressions, blind 12.8 %, 7 CPU minutes.
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
comprehension = dict(_base_.comprehension, answer="<boxes>")
train_dataloader = dict(
    dataset=dict(task=dict(tasks=[comprehension, _base_.generation]))
)
test_dataloader = dict(dataset=dict(task=comprehension))
test_evaluator = dict(rule="qwen_vl")
train_cfg = dict(max_iters=1000)
# The resampler begins anew; till it shows places, the language model should not forget
# how to look them up.
optim_wrapper = dict(paramwise_cfg=dict(parts=dict(language_model=dict(lr=1e-3))))
