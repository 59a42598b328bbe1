"""VizWiz-VQA test: the answers are hidden, the server scores an upload."""

_base_ = "vizwiz_val.py"
benchmark = dict(
    name="vizwiz_test",
    split="test",
    source="Gurari et al., CVPR 2018; EvalAI",
    dataset=dict(ann_file="test.json", image_prefix="test"),
    num_items=8000,
    submission=dict(type="vizwiz"),
)
