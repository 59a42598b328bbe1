"""RefCOCO testB, boxes as LLaVA writes them."""

_base_ = "refcoco_val.py"
benchmark = dict(
    name="refcoco_testb",
    title="RefCOCO",
    split="testB",
    dataset=dict(ann_file="refcoco/refs(unc).p", split="testB"),
    num_items=5095,
    data_version="unc",
)
