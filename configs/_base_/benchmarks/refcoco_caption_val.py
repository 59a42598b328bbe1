"""RefCOCO val, region captioning (CIDEr)."""

benchmark = dict(
    name="refcoco_caption_val",
    title="RefCOCO",
    split="val",
    source="Kazemzadeh et al., EMNLP 2014; Yu et al., ECCV 2016; Liu et al., arXiv 2310.03744 (LLaVA-1.5)",
    dataset=dict(
        type="RefCOCODataset",
        data_root="data/refer",
        ann_file="refcoco/refs(unc).p",
        split="val",
        per="ref",
        image_prefix="train2014",
        task=dict(
            type="RegionCaption",
            templates=["Please provide a short description for this region: <objs>"],
        ),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=64),
    scorer=dict(type="CaptionScorer"),
    headline="cider",
    num_items=3811,
    data_version="unc",
    ceiling=1000.0,
)
