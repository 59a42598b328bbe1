"""Images with captions in LLaVA's format: a question of <image> alone, one answer."""

chat_template = "plain"
train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="RandomBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="LLaVADataset",
        name="captions",
        data_root="data/captions",
        ann_file="captions.jsonl",
        image_prefix="images",
        pipeline=[
            dict(type="LoadImages"),
            dict(type="ResizeSquare", size=224),
            dict(type="EncodeConversation", max_length=192, overflow="truncate_text"),
            dict(type="PackVLMInputs"),
        ],
    ),
)
