"""RefCOCO+ testA, region captioning (CIDEr)."""

_base_ = "refcoco_caption_val.py"
benchmark = dict(
    name="refcocop_caption_testa",
    title="RefCOCO+",
    split="testA",
    dataset=dict(ann_file="refcoco+/refs(unc).p", split="testA"),
    num_items=1975,
    data_version="unc",
)
