"""Tiny Shikra: boxes as numerals of three decimals, a linear connector.

Reproduces: Shikra's syntax, answers and verdicts in the small. Shikra starts from Vicuna;
this one starts from the language model that the demo tuned on TinyScenes' own questions,
whose boxes are written otherwise.
Command: tools/train.py configs/tiny/shikra-clip-tiny_linear_llama-tiny_1xb48-600i-ft_tiny-scenes-referring.py
Hardware: sized for 2 CPU cores.
Expected: 98.0 % of 400 expressions, blind 13.0 %, 5 CPU minutes.
"""

_base_ = [
    "../_base_/models/llava-clip-tiny_mlp2x_llama-tiny.py",
    "../_base_/datasets/tiny_scenes_referring.py",
    "../_base_/schedules/tiny.py",
    "../_base_/default_runtime.py",
]

model = dict(
    connector=dict(_delete_=True, type="LinearConnector", select_layers=[-2]),
    train_parts=dict(vision_encoder=False, connector=True, language_model=True),
)
processor = dict(
    views=dict(type="PadToSquare"), codec=dict(type="ShikraCodec"), max_length=512
)
comprehension = dict(_base_.comprehension, answer="Answer: <boxes> .")
train_dataloader = dict(
    dataset=dict(task=dict(tasks=[comprehension, _base_.generation]))
)
test_dataloader = dict(dataset=dict(task=comprehension))
test_evaluator = dict(rule="shikra")
train_cfg = dict(max_iters=600)
optim_wrapper = dict(optimizer=dict(lr=3e-3, weight_decay=0.1))
base_batch_size = 48
load_from = [
    dict(
        path="work_dirs/clip-tiny_contrastive_none_1xb192-1600i-pt_tiny-scenes",
        parts=["vision_encoder"],
    ),
    dict(
        path="work_dirs/llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes",
        parts=["language_model"],
    ),
]
