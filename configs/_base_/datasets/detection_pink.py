"""COCO and Visual Genome under PINK's pool of tasks, one per sample."""

chat_template = "vicuna_v1"
pipeline = [
    dict(type="LoadImages", any_suffix=True),
    dict(type="PadToSquare"),
    dict(type="WriteRegions", codec=dict(type="PinkCodec", geometry="square_pad")),
    dict(type="EncodeConversation", max_length=2048, overflow="truncate_text"),
    dict(type="PackVLMInputs"),
]
common = dict(bad_samples=dict(policy="skip", max_fraction=0.01), pipeline=pipeline)
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="BalancedBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="MixtureDataset",
        name="detection-pink",
        datasets=[
            dict(
                type="VisualGenomeDataset",
                name="visual-genome",
                data_root="data/visual_genome",
                ann_file="region_descriptions.json",
                also=["objects.json", "attributes.json", "relationships.json"],
                image_data="image_data.json",
                image_prefix="",
                with_folder=True,
                task=dict(
                    type="MultiTurn",
                    tasks=[
                        dict(type="RelationQuestion"),
                        dict(type="CoarseLocation"),
                        dict(type="RegionCaption"),
                    ],
                    max_rounds=1,
                ),
                **common,
            ),
            dict(
                type="CocoDetectionDataset",
                name="coco",
                data_root="data/coco",
                ann_file="annotations/instances_train2017.json",
                image_prefix="train2017",
                task=dict(
                    type="MultiTurn",
                    tasks=[
                        dict(type="CategoryDetection"),
                        dict(type="CategoryCounting"),
                    ],
                    max_rounds=1,
                ),
                **common,
            ),
        ],
    ),
)
