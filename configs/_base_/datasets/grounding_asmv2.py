"""Shikra's flat Flickr30k and RefCOCO in the syntax of All-Seeing v2, images padded."""

codec = dict(type="ASMv2Codec")
chat_template = "vicuna_v1"
pipeline = [
    dict(type="LoadImages", any_suffix=True),
    dict(type="PadToSquare"),
    dict(type="WriteRegions", codec=codec),
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
        name="grounding-asmv2",
        datasets=[
            dict(
                type="ShikraFlickr30kDataset",
                name="flickr30k",
                data_root="data/shikra",
                ann_file="CWB_flickr30k_train.jsonl",
                image_prefix="flickr30k-images",
                task=dict(type="GroundedCaption"),
                **common,
            ),
            dict(
                type="RefCOCODataset",
                name="refcoco",
                data_root="data/refer",
                ann_file="refcoco/refs(unc).p",
                image_prefix="train2014",
                per="sentence",
                **common,
            ),
        ],
    ),
)
