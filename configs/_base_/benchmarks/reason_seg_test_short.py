"""ReasonSeg test, questions that are a phrase."""

_base_ = "reason_seg_val.py"
benchmark = dict(
    name="reason_seg_test_short",
    split="test short",
    dataset=dict(ann_file="test", is_sentence=False),
    num_items=None,  # no source of this count was found
)
