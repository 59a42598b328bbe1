"""The ablation's language model: next token on the text of fine TinyScenes.

Reproduces: nothing; every run of the ablation starts from this model.
Command: tools/train.py configs/ablations/tiny_scenes/pretrain/text_none_llama-tiny_1xb48-500i-pt_tiny-scenes-fine.py
Hardware: sized for 2 CPU cores.
Expected: loss 0.23 at the end.
"""

_base_ = [
    "../../../_base_/models/llava-clip-tiny-l6_mlp2x_llama-tiny.py",
    "../../../_base_/datasets/tiny_scenes_fine.py",
    "../../../_base_/schedules/tiny.py",
    "../../../_base_/default_runtime.py",
]

model = dict(vision_encoder=None, connector=None)
train_dataloader = dict(
    batch_size=48,
    dataset=dict(
        name="tiny-scenes-fine-text",
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
train_cfg = dict(max_iters=500)
optim_wrapper = dict(optimizer=dict(lr=3e-3))
base_batch_size = 48
