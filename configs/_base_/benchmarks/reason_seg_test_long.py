"""ReasonSeg test, questions that are a sentence."""

_base_ = "reason_seg_val.py"
benchmark = dict(
    name="reason_seg_test_long",
    split="test long",
    dataset=dict(ann_file="test", is_sentence=True),
    num_items=None,  # no source of this count was found
)
