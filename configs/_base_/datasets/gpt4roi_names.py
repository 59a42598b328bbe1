"""COCO's objects, RefCOCO and RefCOCO+: a region is shown, its short name is asked."""

pipeline = [
    dict(type="LoadImages", any_suffix=True),
    dict(type="ResizeSquare"),
    dict(type="WriteRegions", codec=dict(type="RegionTokenCodec", token="<bbox>")),
    dict(type="PrepareRegions"),
    dict(type="EncodeConversation", max_length=2048, overflow="truncate_text"),
    dict(type="PackVLMInputs"),
]
common = dict(bad_samples=dict(policy="skip", max_fraction=0.01), pipeline=pipeline)
name_it = dict(type="ReferringGeneration", templates="<objs>")
train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="BalancedBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="MixtureDataset",
        name="gpt4roi-names",
        datasets=[
            dict(
                type="CocoDetectionDataset",
                name="coco",
                data_root="data/coco",
                ann_file="annotations/instances_train2017.json",
                image_prefix="train2017",
                task=dict(
                    type="MultiTurn",
                    tasks=[dict(type="RegionCaption", templates="<objs>")],
                    max_rounds=15,
                ),
                **common,
            ),
            dict(
                type="MDETRDataset",
                name="refcoco",
                data_root="data/mdetr_annotations",
                ann_file="finetune_refcoco_train.json",
                image_prefix="train2014",
                task=name_it,
                **common,
            ),
            dict(
                type="MDETRDataset",
                name="refcoco+",
                data_root="data/mdetr_annotations",
                ann_file="finetune_refcoco+_train.json",
                image_prefix="train2014",
                task=name_it,
                **common,
            ),
        ],
    ),
)
