"""Captions with a mask per phrase (GLaMM's GCG), classes, and gRefCOCO.

Weights of the captions and classes are those of the official fine-tuning on GranD-f
(9:9:9:1 and 3); gRefCOCO, with several targets or none, is ours to add. A phrase is
written as ``<p> phrase </p> [SEG]``.
"""

_base_ = "./segmentation_sources.py"

chat_template = "vicuna_v1"
codec = dict(type="RegionTokenCodec", token="[SEG]", phrase_marks=["<p>", "</p>"])
pipeline = [
    dict(type="LoadImages", any_suffix=True),
    dict(type="PadToSquare"),
    dict(type="WriteRegions", codec=codec),
    dict(type="EncodeConversation", max_length=2048, overflow="truncate_text"),
    dict(type="PackVLMInputs", meta_keys=["marked_regions"]),
]
common = dict(bad_samples=dict(policy="skip", max_fraction=0.01), pipeline=pipeline)
train = "GranDf/annotations/train"
grand_f = dict(
    type="GranDfDataset",
    data_root="data",
    task=dict(type="GroundedCaption", kind="mask"),
    **common,
)
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="BalancedBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="MixtureDataset",
        name="grounded-masks",
        by="samples",
        weights=[0.6, 0.6, 0.6, 0.6, 0.6, 9, 9, 9, 1, 3],
        datasets=[
            *(dict(source, **common) for source in _base_.class_sources),
            dict(
                grand_f,
                name="refcocog-gcg",
                ann_file=train + "/RefCOCOg_GCG_train.json",
                image_prefix="coco_2014/train2014",
            ),
            dict(
                grand_f,
                name="psg-gcg",
                ann_file=train + "/OpenPsgGCG_train.json",
                image_prefix="coco_2017/train2017",
            ),
            dict(
                grand_f,
                name="flickr-gcg",
                ann_file=train + "/flickr_mergedGT_GCG_train.json",
                image_prefix="flikcr_30k/train",
            ),
            dict(
                grand_f,
                name="grand-f",
                ann_file=train + "/GranDf_HA_GCG_train.json",
                image_prefix="GranDf_HA_images/train",
            ),
            dict(
                type="GRefCOCODataset",
                name="grefcoco",
                data_root="data/refer",
                ann_file="grefcoco/grefs(unc).json",
                image_prefix="train2014",
                per="image",
                task=dict(type="GeneralizedSegmentation"),
                **common,
            ),
        ],
    ),
)
