"""GQA testdev, balanced questions, exact answers."""

benchmark = dict(
    name="gqa",
    title="GQA",
    split="testdev_balanced",
    source="Hudson and Manning, CVPR 2019, eval.py",
    dataset=dict(
        type="GQADataset",
        data_root="data/gqa",
        ann_file="testdev_balanced_questions.json",
        image_prefix="images",
        task=dict(
            type="VisualQuestionAnswering",
            suffix="Answer the question using a single word or phrase.",
        ),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=128),
    scorer=dict(type="GQAScorer"),
    headline="acc",
    num_items=12578,
    data_version="1.2",
    submission=dict(type="gqa"),
)
