"""TinyScenes, tangled style: regions that share a box are named by their pixels.

Written by tools/dataset_converters/make_tiny_scenes.py --style tangled --num 24000
--num-test 1000 --format llava refcoco ferret_grit --out data/tiny_scenes_tangled.
"""

train_dataloader = dict(
    batch_size=48,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="RandomBatchSampler"),
    dataset=dict(
        type="FerretGRITDataset",
        name="tiny-scenes-tangled",
        data_root="data/tiny_scenes_tangled",
        ann_file="ferret_grit/vg_object_train.json",
        image_prefix="images",
        point_share=0.5,
        pipeline=[
            dict(type="LoadImages"),
            dict(type="ResizeSquare", size=96),
            dict(type="WriteRegions", codec=dict(type="FerretCodec")),
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
        name="tiny-scenes-tangled-test",
        data_root="data/tiny_scenes_tangled",
        ann_file="ferret_grit/vg_object_test.json",
        image_prefix="images",
        point_share=0.0,
        pipeline=[
            dict(type="LoadImages"),
            dict(type="ResizeSquare", size=96),
            dict(type="WriteRegions", codec=dict(type="FerretCodec")),
            dict(type="PrepareRegions", mode="generate"),
            dict(type="EncodeConversation", mode="generate"),
            dict(type="PackVLMInputs"),
        ],
    ),
)
test_cfg = dict()
test_evaluator = dict(type="TinyScenesMetric", out_file=None)
