"""RefCOCO testB, masks; cIoU."""

_base_ = "refcoco_seg_val.py"
benchmark = dict(
    name="refcoco_seg_testb",
    title="RefCOCO",
    split="testB",
    dataset=dict(ann_file="refcoco/refs(unc).p", split="testB"),
    num_items=5095,
    data_version="unc",
)
