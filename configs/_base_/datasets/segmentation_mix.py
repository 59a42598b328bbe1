"""LISA's mixture: classes, parts, expressions and reasoning, masks as [SEG].

A mask is one token of the answer; regions, with their masks, travel beside the
sample (``meta_keys=['marked_regions']``) to what reads that token's state.
"""

_base_ = "./segmentation_sources.py"

chat_template = "vicuna_v1"
pipeline = [
    dict(type="LoadImages", any_suffix=True),
    dict(type="PadToSquare"),
    dict(type="WriteRegions", codec=dict(type="RegionTokenCodec", token="[SEG]")),
    dict(type="EncodeConversation", max_length=2048, overflow="truncate_text"),
    dict(type="PackVLMInputs", meta_keys=["marked_regions"]),
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
        name="segmentation-mix",
        weights=[1, 1, 1, 1, 1, 30, 1, 1, 1],
        datasets=[
            *(dict(source, **common) for source in _base_.class_sources),
            dict(
                type="ReasonSegDataset",
                name="reason-seg",
                data_root="data/ReasonSeg",
                ann_file="train",
                explanatory_file="explanatory/train.json",
                task=dict(type="ReasoningSegmentation"),
                **common,
            ),
            dict(
                type="RefCOCODataset",
                name="refcoco",
                data_root="data/refer",
                ann_file="refcoco/refs(unc).p",
                image_prefix="train2014",
                per="image",
                task=dict(type="ReferringSegmentation"),
                **common,
            ),
            dict(
                type="RefCOCODataset",
                name="refcoco+",
                data_root="data/refer",
                ann_file="refcoco+/refs(unc).p",
                image_prefix="train2014",
                per="image",
                task=dict(type="ReferringSegmentation"),
                **common,
            ),
            dict(
                type="RefCOCODataset",
                name="refcocog",
                data_root="data/refer",
                ann_file="refcocog/refs(umd).p",
                image_prefix="train2014",
                per="image",
                task=dict(type="ReferringSegmentation"),
                **common,
            ),
        ],
    ),
)
