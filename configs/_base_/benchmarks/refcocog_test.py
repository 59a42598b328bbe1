"""RefCOCOg test, boxes as LLaVA writes them."""

_base_ = "refcoco_val.py"
benchmark = dict(
    name="refcocog_test",
    title="RefCOCOg",
    split="test",
    dataset=dict(ann_file="refcocog/refs(umd).p", split="test"),
    num_items=9602,
    data_version="umd",
)
