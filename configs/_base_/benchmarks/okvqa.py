"""OK-VQA val: knowledge from outside the image."""

benchmark = dict(
    name="okvqa",
    title="OK-VQA",
    split="val",
    source="Marino et al., CVPR 2019, v1.1",
    dataset=dict(
        type="OKVQADataset",
        data_root="data/coco",
        ann_file="okvqa/OpenEnded_mscoco_val2014_questions.json",
        answer_file="okvqa/mscoco_val2014_annotations.json",
        image_prefix="val2014",
        task=dict(
            type="VisualQuestionAnswering",
            suffix="Answer the question using a single word or phrase.",
        ),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=128),
    scorer=dict(type="TenAnswerScorer", rule="vqa"),
    headline="acc",
    num_items=5046,
    data_version="v1.1",
)
