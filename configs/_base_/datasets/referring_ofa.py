"""Flat referring files and MDETR's, in OFA's location tokens."""

chat_template = "vicuna_v1"
pipeline = [
    dict(type="LoadImages", any_suffix=True),
    dict(type="ResizeSquare"),
    dict(type="WriteRegions", codec=dict(type="OFACodec")),
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
        name="referring-ofa",
        datasets=[
            dict(
                type="FlatReferringDataset",
                name="ofa",
                data_root="data/ofa",
                ann_file="refcoco_train.tsv",
                dialect="ofa",
                **common,
            ),
            dict(
                type="MDETRDataset",
                name="mdetr",
                data_root="data/mdetr",
                ann_file="finetune_refcocog_train.json",
                image_prefix="train2014",
                **common,
            ),
        ],
    ),
)
