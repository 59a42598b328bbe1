"""DenseFusion-1M: long captions after the image, centre crop, plain template.

The limit is the official one, of text alone: ids are cut before images come in.
"""

chat_template = "plain"
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="RandomBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="DenseFusionDataset",
        name="densefusion-1m",
        data_root="data/densefusion",
        ann_file="DenseFusion-1M.jsonl",
        image_prefix="images",
        pipeline=[
            dict(type="LoadImages"),
            dict(type="CenterCropSquare"),
            dict(
                type="EncodeConversation",
                max_length=2000,
                overflow="truncate_text",
                count_images=False,
            ),
            dict(type="PackVLMInputs"),
        ],
    ),
)
