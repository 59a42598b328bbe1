"""RefCOCO testB, region captioning (CIDEr)."""

_base_ = "refcoco_caption_val.py"
benchmark = dict(
    name="refcoco_caption_testb",
    title="RefCOCO",
    split="testB",
    dataset=dict(ann_file="refcoco/refs(unc).p", split="testB"),
    num_items=1810,
    data_version="unc",
)
