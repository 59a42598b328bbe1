"""ScienceQA test, all questions, those without an image too."""

benchmark = dict(
    name="scienceqa",
    title="ScienceQA",
    split="test",
    source="Lu et al., NeurIPS 2022; Liu et al., arXiv 2310.03744 (LLaVA-1.5)",
    dataset=dict(
        type="ScienceQADataset",
        data_root="data/scienceqa",
        ann_file="problems.json",
        split="test",
        image_prefix="images",
        task=dict(
            type="ScienceQuestion",
            form="CQM-A",
            letter_only=True,
            suffix="Answer with the option's letter from the given choices directly.",
        ),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=1024),
    scorer=dict(type="ScienceQAScorer"),
    headline="acc",
    num_items=4241,
)
