"""VQAv2 test-dev from the question file of LLaVA-1.5, whose wording it holds."""

benchmark = dict(
    name="vqav2_testdev_llava",
    title="VQAv2",
    split="test-dev",
    source="Goyal et al., CVPR 2017; Liu et al., arXiv 2310.03744 (LLaVA-1.5)",
    dataset=dict(
        type="LLaVAQuestionsDataset",
        data_root="data/vqav2",
        ann_file="llava_vqav2_mscoco_test-dev2015.jsonl",
        image_prefix="test2015",
        evaluate=True,
    ),
    generation=dict(max_new_tokens=128),
    scorer=dict(type="TenAnswerScorer", rule="vqa"),
    headline="acc",
    variant="eval.zip",
    num_items=107394,
    data_version="v2",
    submission=dict(type="vqav2"),
)
