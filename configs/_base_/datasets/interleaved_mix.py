"""Web documents with images between their texts: MMC4 and OBELICS."""

chat_template = dict(type="plain", require_image=False)
pipeline = [
    dict(type="LoadImages", any_suffix=True),
    dict(type="PadToSquare"),
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
        name="interleaved-mix",
        datasets=[
            dict(
                type="MMC4Dataset",
                name="mmc4",
                data_root="data/mmc4",
                ann_file="docs_shard_{0..9}_v2.jsonl",
                image_prefix="images",
                max_images=3,
                missing_images="drop",
                **common,
            ),
            dict(
                type="OBELICSDataset",
                name="obelics",
                data_root="data/obelics",
                ann_file="data",
                image_map="images.json",
                image_prefix="images",
                max_images=3,
                missing_images="drop",
                **common,
            ),
        ],
    ),
)
