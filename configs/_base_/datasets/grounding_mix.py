"""Ferret's GRIT, Flickr30k Entities and LVIS in Ferret's syntax."""

chat_template = "vicuna_v1"
pipeline = [
    dict(type="LoadImages", any_suffix=True),
    dict(type="ResizeSquare"),
    dict(type="WriteRegions", codec=dict(type="FerretCodec")),
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
        name="grounding-mix",
        datasets=[
            dict(
                type="FerretGRITDataset",
                name="grit",
                data_root="data/grit",
                ann_file="refexp_all.json",
                image_prefix="coco/train2014",
                **common,
            ),
            dict(
                type="Flickr30kEntitiesDataset",
                name="flickr30k",
                data_root="data/flickr30k_entities",
                ann_file="train.txt",
                image_prefix="flickr30k-images",
                task=dict(type="PhraseGrounding", ask="all", lower=True),
                **common,
            ),
            dict(
                type="LVISDataset",
                name="lvis",
                data_root="data/lvis",
                ann_file="lvis_v1_train.json",
                image_prefix="",
                task=dict(
                    type="MultiTurn",
                    tasks=[dict(type="Existence"), dict(type="PointQA")],
                ),
                **common,
            ),
        ],
    ),
)
