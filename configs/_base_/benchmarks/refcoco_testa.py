"""RefCOCO testA, boxes as LLaVA writes them."""

_base_ = "refcoco_val.py"
benchmark = dict(
    name="refcoco_testa",
    title="RefCOCO",
    split="testA",
    dataset=dict(ann_file="refcoco/refs(unc).p", split="testA"),
    num_items=5657,
    data_version="unc",
)
