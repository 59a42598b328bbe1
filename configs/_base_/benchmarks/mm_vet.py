"""MM-Vet: a judge grades answers, by capability."""

benchmark = dict(
    name="mm_vet",
    title="MM-Vet",
    split="test",
    source="Yu et al., ICML 2024; Liu et al., arXiv 2310.03744 (LLaVA-1.5)",
    dataset=dict(
        type="MMVetDataset",
        data_root="data/mm-vet",
        ann_file="mm-vet.json",
        image_prefix="images",
        task=dict(type="VisualQuestionAnswering"),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=1024),
    scorer=dict(type="MMVetScorer"),
    headline="total",
    num_items=218,
    submission=dict(type="mmvet"),
)
