"""ReasonSeg test."""

_base_ = "reason_seg_val.py"
benchmark = dict(
    name="reason_seg_test",
    split="test",
    dataset=dict(ann_file="test"),
    num_items=779,
)
