"""RefCOCOg test, region captioning (CIDEr)."""

_base_ = "refcoco_caption_val.py"
benchmark = dict(
    name="refcocog_caption_test",
    title="RefCOCOg",
    split="test",
    dataset=dict(ann_file="refcocog/refs(umd).p", split="test"),
    num_items=5023,
    data_version="umd",
)
