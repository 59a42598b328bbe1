"""Kosmos-2's GRIT: captions whose phrases bear location tokens."""

chat_template = "vicuna_v1"
pipeline = [
    dict(type="LoadImages", any_suffix=True),
    dict(type="ResizeSquare"),
    dict(type="WriteRegions", codec=dict(type="Kosmos2Codec")),
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
        name="grounding-kosmos2",
        datasets=[
            dict(
                type="Kosmos2GRITDataset",
                name="grit-20m",
                data_root="data/grit-20m",
                ann_file="coyo_0_snappy.parquet",
                image_prefix="images",
                min_score=0.65,
                **common,
            ),
        ],
    ),
)
