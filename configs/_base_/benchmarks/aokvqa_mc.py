"""A-OKVQA val, multiple choice."""

benchmark = dict(
    name="aokvqa_mc",
    title="A-OKVQA",
    split="val",
    source="Schwenk et al., ECCV 2022, v1.0",
    dataset=dict(
        type="AOKVQADataset",
        data_root="data/coco",
        ann_file="aokvqa/aokvqa_v1p0_val.json",
        image_prefix="val2017",
        task=dict(
            type="MultipleChoice",
            suffix="Answer with the option's letter from the given choices directly.",
        ),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=128),
    scorer=dict(type="ChoiceScorer", rule="exact_letter"),
    headline="acc",
    variant="choices",
    chance=25.0,
    num_items=1145,
    data_version="v1.0",
)
