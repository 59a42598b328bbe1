"""RefCOCO val, masks; cIoU. The official prompt has a space behind the line break."""

benchmark = dict(
    name="refcoco_seg_val",
    title="RefCOCO",
    split="val",
    source="Kazemzadeh et al., EMNLP 2014; Yu et al., ECCV 2016; dvlab-research/LISA",
    dataset=dict(
        type="RefCOCODataset",
        data_root="data/refer",
        ann_file="refcoco/refs(unc).p",
        split="val",
        image_prefix="train2014",
        task=dict(
            type="ReferringSegmentation",
            max_questions=1,
            questions=[
                " What is <name> in this image? Please output segmentation mask."
            ],
            answers=["<mask>."],
        ),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=32),
    scorer=dict(type="MaskScorer", rule="ciou"),
    headline="ciou",
    num_items=10834,
    data_version="unc",
    variant="free answer",
)
