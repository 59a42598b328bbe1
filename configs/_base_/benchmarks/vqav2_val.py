"""VQAv2 val in the wording of LLaVA-1.5, scored by the official rule."""

benchmark = dict(
    name="vqav2_val",
    title="VQAv2",
    split="val",
    source="Goyal et al., CVPR 2017; GT-Vision-Lab/VQA",
    dataset=dict(
        type="VQAv2Dataset",
        data_root="data/vqav2",
        ann_file="v2_OpenEnded_mscoco_val2014_questions.json",
        answer_file="v2_mscoco_val2014_annotations.json",
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
    num_items=214354,
    data_version="v2",
)
