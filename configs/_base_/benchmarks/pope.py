"""POPE: the mean F1 of its three subsets, LLaVA-1.5's wording and files."""

benchmark = dict(
    name="pope",
    title="POPE",
    split="all",
    source="Li et al., EMNLP 2023; Liu et al., arXiv 2310.03744 (LLaVA-1.5)",
    dataset=dict(
        type="POPEDataset",
        data_root="data/coco",
        ann_file="pope/coco_pope_{random,popular,adversarial}.json",
        image_prefix="val2014",
        task=dict(
            type="VisualQuestionAnswering",
            suffix="Answer the question using a single word or phrase.",
        ),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=128),
    scorer=dict(type="YesNoScorer", rule="pope"),
    headline="f1",
    chance=50.0,
    num_items=8910,
    data_version="e3e3926 (random: 2,910 lines)",
)
