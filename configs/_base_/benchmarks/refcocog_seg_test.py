"""RefCOCOg test, masks; cIoU."""

_base_ = "refcoco_seg_val.py"
benchmark = dict(
    name="refcocog_seg_test",
    title="RefCOCOg",
    split="test",
    dataset=dict(ann_file="refcocog/refs(umd).p", split="test"),
    num_items=9602,
    data_version="umd",
)
