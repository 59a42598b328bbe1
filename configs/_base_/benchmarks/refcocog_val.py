"""RefCOCOg val, boxes as LLaVA writes them."""

_base_ = "refcoco_val.py"
benchmark = dict(
    name="refcocog_val",
    title="RefCOCOg",
    split="val",
    dataset=dict(ann_file="refcocog/refs(umd).p", split="val"),
    num_items=4896,
    data_version="umd",
)
