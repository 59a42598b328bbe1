"""RefCOCO+ val, region captioning (CIDEr)."""

_base_ = "refcoco_caption_val.py"
benchmark = dict(
    name="refcocop_caption_val",
    title="RefCOCO+",
    split="val",
    dataset=dict(ann_file="refcoco+/refs(unc).p", split="val"),
    num_items=3805,
    data_version="unc",
)
