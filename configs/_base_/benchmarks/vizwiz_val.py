"""VizWiz-VQA val, human answers compared as they are."""

benchmark = dict(
    name="vizwiz_val",
    title="VizWiz",
    split="val",
    source="Gurari et al., CVPR 2018; VizWiz API",
    dataset=dict(
        type="VizWizDataset",
        data_root="data/vizwiz",
        ann_file="val.json",
        image_prefix="val",
        task=dict(
            type="VisualQuestionAnswering",
            suffix="When the provided information is insufficient, respond with 'Unanswerable'.\nAnswer the question using a single word or phrase.",
        ),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=128),
    scorer=dict(type="TenAnswerScorer", rule="vizwiz"),
    headline="acc",
    num_items=4319,
)
