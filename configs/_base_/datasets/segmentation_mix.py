"""LISA's mixture: classes, parts, expressions and reasoning, masks as [SEG].

A mask is one token of the answer; regions, with their masks, travel beside the
sample (``meta_keys=['marked_regions']``) to what reads that token's state.
"""

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
            dict(
                type="ADE20KDataset",
                name="ade20k",
                data_root="data/ade20k",
                ann_file="objectInfo150.txt",
                image_prefix="images/training",
                label_prefix="annotations/training",
                **common,
            ),
            dict(
                type="COCOStuffDataset",
                name="coco-stuff",
                data_root="data/cocostuff",
                ann_file="labels.txt",
                image_prefix="train2017",
                label_prefix="stuffthingmaps/train2017",
                **common,
            ),
            dict(
                type="MapillaryVistasDataset",
                name="mapillary",
                data_root="data/mapillary",
                ann_file="config_v2.0.json",
                image_prefix="training/images",
                label_prefix="training/v2.0/labels",
                **common,
            ),
            dict(
                type="PACOLVISDataset",
                name="paco",
                data_root="data/paco",
                ann_file="annotations/paco_lvis_v1_train.json",
                image_prefix="",
                task=dict(type="SemanticSegmentation", unit="instance"),
                **common,
            ),
            dict(
                type="PascalPartDataset",
                name="pascal-part",
                data_root="data/pascal_part",
                ann_file="train.json",
                image_prefix="VOCdevkit/VOC2010/JPEGImages",
                **common,
            ),
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
