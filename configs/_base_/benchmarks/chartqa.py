"""ChartQA test, both parts, relaxed accuracy."""

benchmark = dict(
    name="chartqa",
    title="ChartQA",
    split="test",
    source="Masry et al., Findings of ACL 2022",
    dataset=dict(
        type="ChartQADataset",
        data_root="data/chartqa",
        ann_file="test/test_{human,augmented}.json",
        image_prefix="test/png",
        task=dict(
            type="VisualQuestionAnswering",
            suffix="Answer the question using a single word or phrase.",
        ),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=128),
    scorer=dict(type="RelaxedAccuracyScorer"),
    headline="acc",
    num_items=2500,
)
