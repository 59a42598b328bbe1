"""LISA in the small: all four sources, the mask decoder learns, the parent.

Reproduces: LISA's sources, parts and losses.
Command: tools/train.py configs/ablations/tiny_scenes/lisa/lisa-all-clip-sam-tiny_mlp2x_llama-tiny_1xb24-200i-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: a gIoU of 0.41 +- 0.04, three seeds.
"""

_base_ = "../../../tiny/lisa-clip-sam-tiny_mlp2x_llama-tiny_1xb24-1k-ft_tiny-scenes.py"

# Three kinds of masks, and questions that are answered in words.
masks = _base_.test_dataloader.dataset.datasets
words = dict(
    type="LLaVADataset",
    name="words",
    data_root="data/tiny_scenes",
    ann_file="test.json",
    pipeline=_base_.test_pipeline,
    shuffle_images=False,
)
test_dataloader = dict(
    dataset=dict(
        datasets=[
            dict(masks[0], indices=200),
            dict(masks[1], indices=200),
            dict(masks[2], indices=150),
            dict(words, indices=200),
        ]
    )
)
test_evaluator = [
    dict(
        type="MaskIoUMetric",
        datasets=["shapes", "writing", "reasoning"],
        out_file=None,
    ),
    dict(type="TinyScenesMetric", datasets=["words"], out_file=None),
]
train_cfg = dict(max_iters=200)
