"""RefCOCOg val, region captioning (CIDEr)."""

_base_ = "refcoco_caption_val.py"
benchmark = dict(
    name="refcocog_caption_val",
    title="RefCOCOg",
    split="val",
    dataset=dict(ann_file="refcocog/refs(umd).p", split="val"),
    num_items=2573,
    data_version="umd",
)
