"""TinyScenes: generated images, many questions each; tests ask one at a time.

Written by tools/dataset_converters/make_tiny_scenes.py --out data/tiny_scenes.
"""

train_dataloader = dict(
    batch_size=96,
    num_workers=0,
    sampler=dict(type="RandomBatchSampler"),
    dataset=dict(
        type="LLaVADataset",
        name="tiny-scenes",
        data_root="data/tiny_scenes",
        ann_file="train.json",
        pipeline=[
            dict(type="LoadImages"),
            dict(type="ResizeSquare"),
            dict(type="EncodeConversation", max_length=512),
            dict(type="PackVLMInputs"),
        ],
    ),
)
test_dataloader = dict(
    batch_size=90,
    num_workers=0,
    dataset=dict(
        type="LLaVADataset",
        name="tiny-scenes-test",
        data_root="data/tiny_scenes",
        ann_file="test.json",
        shuffle_images=False,
        pipeline=[
            dict(type="LoadImages"),
            dict(type="ResizeSquare"),
            dict(type="EncodeConversation", mode="generate"),
            dict(type="PackVLMInputs"),
        ],
    ),
)
test_cfg = dict()
test_evaluator = dict(type="TinyScenesMetric", out_file=None)
