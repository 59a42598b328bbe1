"""RefCOCOg val, masks; cIoU."""

_base_ = "refcoco_seg_val.py"
benchmark = dict(
    name="refcocog_seg_val",
    title="RefCOCOg",
    split="val",
    dataset=dict(ann_file="refcocog/refs(umd).p", split="val"),
    num_items=4896,
    data_version="umd",
)
