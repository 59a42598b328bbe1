"""ScienceQA test, questions with an image (SQA-IMG)."""

_base_ = "scienceqa.py"
benchmark = dict(
    name="scienceqa_img",
    title="ScienceQA-IMG",
    dataset=dict(with_image=True),
    num_items=2017,
)
