"""gRefCOCO testA, masks of several things or of none; gIoU."""

_base_ = "grefcoco_seg_val.py"
benchmark = dict(
    name="grefcoco_seg_testa",
    split="testA",
    dataset=dict(split="testA"),
)
