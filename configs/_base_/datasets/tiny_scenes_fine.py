"""TinyScenes, fine style: small print, exact boxes, images of 96 pixels.

Written by tools/dataset_converters/make_tiny_scenes.py --style fine --num 24000
--num-test 2000 --prompted-share 0 --out data/tiny_scenes_fine.
"""

train_dataloader = dict(
    batch_size=96,
    num_workers=0,
    sampler=dict(type="RandomBatchSampler"),
    dataset=dict(
        type="LLaVADataset",
        name="tiny-scenes-fine",
        data_root="data/tiny_scenes_fine",
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
    batch_size=100,
    num_workers=0,
    dataset=dict(
        type="LLaVADataset",
        name="tiny-scenes-fine-test",
        data_root="data/tiny_scenes_fine",
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
