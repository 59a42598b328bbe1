"""NoCaps val, CIDEr."""

_base_ = "coco_caption_karpathy.py"
benchmark = dict(
    name="nocaps_val",
    title="NoCaps",
    split="val",
    source="Agrawal et al., ICCV 2019",
    dataset=dict(
        data_root="data/nocaps",
        ann_file="nocaps_val_4500_captions.json",
        image_prefix="val",
    ),
    num_items=4500,
    submission=dict(type="caption"),
)
