"""RefCOCO testA, masks; cIoU."""

_base_ = "refcoco_seg_val.py"
benchmark = dict(
    name="refcoco_seg_testa",
    title="RefCOCO",
    split="testA",
    dataset=dict(ann_file="refcoco/refs(unc).p", split="testA"),
    num_items=5657,
    data_version="unc",
)
