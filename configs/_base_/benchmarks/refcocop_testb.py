"""RefCOCO+ testB, boxes as LLaVA writes them."""

_base_ = "refcoco_val.py"
benchmark = dict(
    name="refcocop_testb",
    title="RefCOCO+",
    split="testB",
    dataset=dict(ann_file="refcoco+/refs(unc).p", split="testB"),
    num_items=4889,
    data_version="unc",
)
