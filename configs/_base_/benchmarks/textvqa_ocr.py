"""TextVQA val with the OCR tokens in the prompt, as LLaVA-1.5 reports it."""

benchmark = dict(
    name="textvqa_ocr",
    title="TextVQA",
    split="val",
    source="Singh et al., CVPR 2019; Liu et al., arXiv 2310.03744 (LLaVA-1.5)",
    dataset=dict(
        type="TextVQADataset",
        data_root="data/textvqa",
        ann_file="TextVQA_0.5.1_val.json",
        image_prefix="train_images",
        ocr_file="TextVQA_Rosetta_OCR_v0.2_val.json",
        task=dict(
            type="VisualQuestionAnswering",
            suffix="Answer the question using a single word or phrase.",
            hint_line="Reference OCR token: {hint}",
        ),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=128),
    scorer=dict(type="TenAnswerScorer", rule="textvqa"),
    headline="acc",
    variant="OCR tokens",
    num_items=5000,
    data_version="0.5.1, Rosetta OCR v0.2",
)
