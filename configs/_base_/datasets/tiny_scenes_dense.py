"""TinyScenes in DenseFusion's format: long captions; nothing is tested here.

Written by tools/dataset_converters/make_tiny_scenes.py --out data/tiny_scenes.
"""

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type="RandomBatchSampler"),
    dataset=dict(
        type="DenseFusionDataset",
        name="tiny-scenes-dense",
        data_root="data/tiny_scenes",
        ann_file="densefusion.jsonl",
        image_prefix="images",
        pipeline=[
            dict(type="LoadImages"),
            dict(type="ResizeSquare"),
            dict(type="EncodeConversation", max_length=512),
            dict(type="PackVLMInputs"),
        ],
    ),
)
