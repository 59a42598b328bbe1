"""TinyScenes in which every thing lies alone in its box: boxes are named.

Written by tools/dataset_converters/make_tiny_scenes.py --format llava ferret_grit
--out data/tiny_scenes.
"""

codec = dict(type="RegionTokenCodec", token="<bbox>")
train_dataloader = dict(
    batch_size=48,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="RandomBatchSampler"),
    dataset=dict(
        type="FerretGRITDataset",
        name="tiny-scenes-regions",
        data_root="data/tiny_scenes",
        ann_file="ferret_grit/vg_object_train.json",
        image_prefix="images",
        point_share=0.0,
        pipeline=[
            dict(type="LoadImages"),
            dict(type="ResizeSquare"),
            dict(type="WriteRegions", codec=codec),
            dict(type="PrepareRegions"),
            dict(type="EncodeConversation", max_length=512),
            dict(type="PackVLMInputs"),
        ],
    ),
)
test_dataloader = dict(
    batch_size=50,
    num_workers=0,
    dataset=dict(
        type="FerretGRITDataset",
        name="tiny-scenes-regions-test",
        data_root="data/tiny_scenes",
        ann_file="ferret_grit/vg_object_test.json",
        image_prefix="images",
        point_share=0.0,
        pipeline=[
            dict(type="LoadImages"),
            dict(type="ResizeSquare"),
            dict(type="WriteRegions", codec=codec),
            dict(type="PrepareRegions", mode="generate"),
            dict(type="EncodeConversation", mode="generate"),
            dict(type="PackVLMInputs"),
        ],
    ),
)
test_cfg = dict()
test_evaluator = dict(type="TinyScenesMetric", out_file=None)
