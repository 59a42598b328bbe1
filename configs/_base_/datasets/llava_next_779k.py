"""LLaVA-NeXT instruction data, any-resolution tiles, grouped by modality.

The public set lmms-lab/LLaVA-NeXT-Data in LLaVA's JSON format; images lie below
``data_root`` where the annotations say.
"""

chat_template = "vicuna_v1"
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="ModalityLengthSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="LLaVADataset",
        name="llava-next-779k",
        data_root="data/llava-next",
        ann_file="llava_next_779k.json",
        # Public files hold a few empty or cut images; they are counted.
        bad_samples=dict(policy="skip", max_fraction=0.01),
        image_prefix="images",
        pipeline=[
            dict(type="LoadImages", any_suffix=True),
            # LLaVA-NeXT's pinpoints (336, 672), (672, 336), (672, 672), (1008, 336)
            # and (336, 1008), in rows and columns of tiles.
            dict(type="AnyResTiles", tilings=[(2, 1), (1, 2), (2, 2), (1, 3), (3, 1)]),
            dict(type="EncodeConversation", max_length=4096, overflow="truncate_text"),
            dict(type="PackVLMInputs"),
        ],
    ),
)
