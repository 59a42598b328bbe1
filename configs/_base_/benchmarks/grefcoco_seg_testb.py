"""gRefCOCO testB, masks of several things or of none; gIoU."""

_base_ = "grefcoco_seg_val.py"
benchmark = dict(
    name="grefcoco_seg_testb",
    split="testB",
    dataset=dict(split="testB"),
)
