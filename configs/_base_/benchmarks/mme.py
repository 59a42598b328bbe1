"""MME: the sum of the ten perception tasks."""

benchmark = dict(
    name="mme",
    title="MME",
    split="perception",
    source="Fu et al., arXiv 2306.13394; Liu et al., arXiv 2310.03744 (LLaVA-1.5)",
    dataset=dict(
        type="MMEDataset",
        data_root="data/mme",
        ann_file="MME_Benchmark_release_version",
        task=dict(
            type="VisualQuestionAnswering",
            suffix="Answer the question using a single word or phrase.",
        ),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=128),
    scorer=dict(type="MMEScorer", rule="mme"),
    headline="perception",
    ceiling=2000.0,
    chance=750.0,
    num_items=2374,
    submission=dict(type="mme"),
)
