"""Osprey, stage 2: masks of things and of their parts are named or described.

COCO's objects, RefCOCO and RefCOCO+ with their masks, and the parts of Pascal-Part and
PartImageNet, which are read as COCO's files.
"""

common = dict(bad_samples=dict(policy="skip", max_fraction=0.01))
name_it = dict(type="RegionCaption", templates="<objs>", kind="mask")
parts = dict(
    type="CocoDetectionDataset",
    task=dict(type="MultiTurn", tasks=[name_it], max_rounds=15),
    **common,
)
refer = dict(
    type="RefCOCODataset",
    data_root="data",
    image_prefix="train2014",
    split="train",
    task=dict(type="ReferringGeneration", kind="mask"),
    **common,
)
train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="BalancedBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="MixtureDataset",
        name="osprey-names",
        datasets=[
            dict(
                parts,
                name="coco",
                data_root="data/coco",
                ann_file="annotations/instances_train2017.json",
                image_prefix="train2017",
                task=dict(type="MultiTurn", tasks=[name_it], max_rounds=20),
            ),
            dict(refer, name="refcoco", ann_file="refcoco/refs(unc).p"),
            dict(refer, name="refcoco+", ann_file="refcoco+/refs(unc).p"),
            dict(
                parts,
                name="pascal-part",
                data_root="data/part_data/pascal_part",
                ann_file="train.json",
                image_prefix="VOCdevkit/VOC2010/JPEGImages",
            ),
            dict(
                parts,
                name="part-imagenet",
                data_root="data/part_data/partImagenet",
                ann_file="train_format.json",
                image_prefix="train",
            ),
        ],
    ),
)
