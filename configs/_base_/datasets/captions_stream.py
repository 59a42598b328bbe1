"""Rows of the web with a caption each, without length or random access."""

chat_template = "vicuna_v1"
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="StreamingDataset",
        name="captions-stream",
        source=dict(path="parquet", data_files="data/hub/*.parquet", split="train"),
        columns=dict(image="image", caption="caption"),
        batch_size=16,
        block_size=4096,
        bad_samples=dict(policy="skip", max_fraction=0.01),
        pipeline=[
            dict(type="LoadImages"),
            dict(type="PadToSquare"),
            dict(type="EncodeConversation", max_length=2048, overflow="truncate_text"),
            dict(type="PackVLMInputs"),
        ],
    ),
)
