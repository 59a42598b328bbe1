"""MMBench dev in English: a question counts when all its rotations are right."""

benchmark = dict(
    name="mmbench",
    title="MMBench",
    split="dev",
    source="Liu et al., ECCV 2024; Liu et al., arXiv 2310.03744 (LLaVA-1.5)",
    dataset=dict(
        type="OptionTSVDataset",
        data_root="data/LMUData",
        ann_file="mmbench_dev_20230712.tsv",
        item_groups="circular",
        task=dict(
            type="MultipleChoice",
            suffix="Answer with the option's letter from the given choices directly.",
            hint_line="{hint}",
        ),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=1024),
    scorer=dict(type="ChoiceScorer", rule="exact_letter", average="groups"),
    headline="acc",
    num_items=4377,
    cluster="group",
    data_version="20230712",
    submission=dict(type="mmbench"),
)
