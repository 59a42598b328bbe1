"""RefCOCO+ testB, region captioning (CIDEr)."""

_base_ = "refcoco_caption_val.py"
benchmark = dict(
    name="refcocop_caption_testb",
    title="RefCOCO+",
    split="testB",
    dataset=dict(ann_file="refcoco+/refs(unc).p", split="testB"),
    num_items=1798,
    data_version="unc",
)
