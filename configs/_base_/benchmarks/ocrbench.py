"""OCRBench without a suffix, as MMFuser's script asks it."""

benchmark = dict(
    name="ocrbench",
    title="OCRBench",
    split="test",
    source="Liu et al., arXiv 2305.07895; yuecao0119/MMFuser",
    dataset=dict(
        type="OCRBenchDataset",
        data_root="data/ocrbench",
        ann_file="OCRBench.json",
        image_prefix="OCRBench_Images",
        task=dict(type="VisualQuestionAnswering"),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=128),
    scorer=dict(type="OCRBenchScorer"),
    headline="final",
    variant="no suffix",
    ceiling=1000.0,
    num_items=1000,
)
