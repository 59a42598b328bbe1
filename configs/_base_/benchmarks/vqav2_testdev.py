"""VQAv2 test-dev: the answers are hidden, the server scores an upload."""

_base_ = "vqav2_val.py"
benchmark = dict(
    name="vqav2_testdev",
    split="test-dev",
    source="Goyal et al., CVPR 2017; EvalAI",
    dataset=dict(
        ann_file="v2_OpenEnded_mscoco_test-dev2015_questions.json",
        image_prefix="test2015",
        answer_file=None,
    ),
    num_items=107394,
    submission=dict(type="vqav2"),
)
