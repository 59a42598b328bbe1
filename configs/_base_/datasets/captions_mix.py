"""Captions of people and of the web: COCO, TextCaps, CC3M, shards and tables."""

chat_template = "vicuna_v1"
describe = dict(
    type="ImageCaption",
    prompts=["Provide a one-sentence caption for the provided image."],
)
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
        name="captions-mix",
        datasets=[
            dict(
                type="COCOCaptionsDataset",
                name="coco",
                data_root="data/coco",
                ann_file="annotations/captions_train2017.json",
                image_prefix="train2017",
                task=describe,
                **common,
            ),
            dict(
                type="TextCapsDataset",
                name="textcaps",
                data_root="data/textcaps",
                ann_file="TextCaps_0.1_train.json",
                image_prefix="train_images",
                task=describe,
                **common,
            ),
            dict(
                type="CC3MDataset",
                name="cc3m",
                data_root="data/cc3m_595k",
                ann_file="metadata.json",
                image_prefix="images",
                field="blip_caption",
                task=describe,
                **common,
            ),
            dict(
                type="WebShardDataset",
                name="cc12m",
                data_root="data/cc12m",
                ann_file="{00000..01242}.tar",
                columns=dict(image="jpg;png;webp", caption="txt"),
                task=describe,
                **common,
            ),
            dict(
                type="HFFolderDataset",
                name="cauldron",
                data_root="data/hub",
                ann_file="the_cauldron_tqa",
                split="train",
                columns=dict(image="images", conversations="messages"),
                **common,
            ),
        ],
    ),
)
