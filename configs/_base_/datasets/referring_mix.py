"""RefCOCO, RefCOCO+, RefCOCOg and Visual Genome in Shikra's syntax.

An image of RefCOCO is asked about in several rounds, both ways; boxes in questions
are jittered.
"""

chat_template = "vicuna_v1"
rounds = dict(
    type="MultiTurn",
    tasks=[
        dict(type="ReferringComprehension", answer="Answer: <boxes> ."),
        dict(type="ReferringGeneration"),
    ],
    weights=[2, 1],
    max_rounds=4,
)
pipeline = [
    dict(type="LoadImages", any_suffix=True),
    dict(type="PadToSquare"),
    dict(type="JitterRegions", scale=0.05, min_iou=0.7),
    dict(type="WriteRegions", codec=dict(type="ShikraCodec")),
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
        name="referring-mix",
        datasets=[
            dict(
                type="RefCOCODataset",
                name="refcoco",
                data_root="data/refer",
                ann_file="refcoco/refs(unc).p",
                image_prefix="train2014",
                per="image",
                task=rounds,
                **common,
            ),
            dict(
                type="RefCOCODataset",
                name="refcoco+",
                data_root="data/refer",
                ann_file="refcoco+/refs(unc).p",
                image_prefix="train2014",
                per="image",
                task=rounds,
                **common,
            ),
            dict(
                type="RefCOCODataset",
                name="refcocog",
                data_root="data/refer",
                ann_file="refcocog/refs(umd).p",
                image_prefix="train2014",
                per="image",
                task=rounds,
                **common,
            ),
            dict(
                type="VisualGenomeDataset",
                name="visual-genome",
                data_root="data/visual_genome",
                ann_file="region_descriptions.json",
                also=["objects.json", "attributes.json", "relationships.json"],
                image_data="image_data.json",
                image_prefix="",
                with_folder=True,
                task=dict(type="RegionCaption"),
                **common,
            ),
        ],
    ),
)
