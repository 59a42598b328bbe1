"""DocVQA val (task 1), ANLS."""

benchmark = dict(
    name="docvqa_val",
    title="DocVQA",
    split="val",
    source="Mathew et al., WACV 2021; RRC evaluator",
    dataset=dict(
        type="DocVQADataset",
        data_root="data/docvqa",
        ann_file="spdocvqa_qas/val_v1.0_withQT.json",
        image_prefix="spdocvqa_images",
        task=dict(
            type="VisualQuestionAnswering",
            suffix="Answer the question using a single word or phrase.",
        ),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=128),
    scorer=dict(type="ANLSScorer"),
    headline="anls",
    num_items=5349,
    data_version="v1.0",
)
