"""A-OKVQA val, direct answers."""

benchmark = dict(
    name="aokvqa_da",
    title="A-OKVQA",
    split="val",
    source="Schwenk et al., ECCV 2022, v1.0",
    dataset=dict(
        type="AOKVQADataset",
        data_root="data/coco",
        ann_file="aokvqa/aokvqa_v1p0_val.json",
        image_prefix="val2017",
        task=dict(
            type="VisualQuestionAnswering",
            suffix="Answer the question using a single word or phrase.",
        ),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=128),
    scorer=dict(type="TenAnswerScorer", rule="vqa"),
    headline="acc",
    variant="direct answer",
    num_items=1145,
    data_version="v1.0",
)
