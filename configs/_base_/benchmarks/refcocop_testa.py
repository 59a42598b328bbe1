"""RefCOCO+ testA, boxes as LLaVA writes them."""

_base_ = "refcoco_val.py"
benchmark = dict(
    name="refcocop_testa",
    title="RefCOCO+",
    split="testA",
    dataset=dict(ann_file="refcoco+/refs(unc).p", split="testA"),
    num_items=5726,
    data_version="unc",
)
