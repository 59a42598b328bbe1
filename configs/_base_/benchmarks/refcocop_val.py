"""RefCOCO+ val, boxes as LLaVA writes them."""

_base_ = "refcoco_val.py"
benchmark = dict(
    name="refcocop_val",
    title="RefCOCO+",
    split="val",
    dataset=dict(ann_file="refcoco+/refs(unc).p", split="val"),
    num_items=10758,
    data_version="unc",
)
