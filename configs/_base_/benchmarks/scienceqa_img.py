"""ScienceQA test, questions with a picture (SQA-IMG)."""

_base_ = "scienceqa.py"
benchmark = dict(
    name="scienceqa_img",
    title="ScienceQA-IMG",
    dataset=dict(with_image=True),
    num_items=2017,
)
