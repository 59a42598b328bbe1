"""Conversations in LLaVA's JSON format with Qwen-VL's images: 448 px squares."""

chat_template = dict(
    type="qwen", image_prefix="Picture {number}: <img>", image_suffix="</img>"
)
train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="RandomBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="LLaVADataset",
        name="qwen-vl",
        data_root="data/qwen-vl",
        ann_file="train.json",
        image_prefix="images",
        pipeline=[
            dict(type="LoadImages"),
            dict(type="ResizeSquare", size=448),
            dict(type="WriteRegions", codec=dict(type="QwenVLCodec")),
            dict(type="EncodeConversation", max_length=2048, overflow="truncate_text"),
            dict(type="PackVLMInputs"),
        ],
    ),
)
