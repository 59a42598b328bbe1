"""LLaVA-Pretrain 558K: captions after the image, centre crop, plain template."""

chat_template = "plain"
train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="RandomBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="LLaVADataset",
        name="llava-558k",
        data_root="data/llava-pretrain",
        ann_file="blip_laion_cc_sbu_558k.json",
        # Public files hold a few empty or cut images; they are counted.
        bad_samples=dict(policy="skip", max_fraction=0.01),
        image_prefix="images",
        pipeline=[
            dict(type="LoadImages"),
            dict(type="CenterCropSquare"),
            dict(type="EncodeConversation", max_length=2048, overflow="truncate_text"),
            dict(type="PackVLMInputs"),
        ],
    ),
)
