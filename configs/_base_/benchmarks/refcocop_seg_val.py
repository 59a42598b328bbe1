"""RefCOCO+ val, masks; cIoU."""

_base_ = "refcoco_seg_val.py"
benchmark = dict(
    name="refcocop_seg_val",
    title="RefCOCO+",
    split="val",
    dataset=dict(ann_file="refcoco+/refs(unc).p", split="val"),
    num_items=10758,
    data_version="unc",
)
