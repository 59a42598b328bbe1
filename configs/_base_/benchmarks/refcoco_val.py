"""RefCOCO val, boxes as LLaVA writes them."""

benchmark = dict(
    name="refcoco_val",
    title="RefCOCO",
    split="val",
    source="Kazemzadeh et al., EMNLP 2014; Yu et al., ECCV 2016; Liu et al., arXiv 2310.03744 (LLaVA-1.5)",
    dataset=dict(
        type="RefCOCODataset",
        data_root="data/refer",
        ann_file="refcoco/refs(unc).p",
        split="val",
        image_prefix="train2014",
        task=dict(
            type="ReferringComprehension",
            templates=[
                "Please provide the bounding box coordinate of the region this sentence describes: <expr>"
            ],
        ),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=64),
    scorer=dict(type="ReferringScorer", rule="llava"),
    headline="acc",
    num_items=10834,
    data_version="unc",
    variant="llava",
)
