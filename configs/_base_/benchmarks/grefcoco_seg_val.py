"""gRefCOCO val, masks of several things or of none; gIoU."""

benchmark = dict(
    name="grefcoco_seg_val",
    title="gRefCOCO",
    split="val",
    source="Liu et al., CVPR 2023; henghuiding/ReLA",
    dataset=dict(
        type="GRefCOCODataset",
        data_root="data/refer",
        ann_file="grefcoco/grefs(unc).json",
        split="val",
        image_prefix="train2014",
        task=dict(
            type="GeneralizedSegmentation",
            max_questions=1,
            # The official prompt, with its space behind the line break.
            questions=[
                " What is <name> in this image? Please output segmentation mask."
            ],
            answers=["<mask>."],
            refusals=["There is no <name> in this image."],
        ),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=32),
    scorer=dict(type="GeneralizedMaskScorer"),
    headline="giou",
    data_version="unc, 2023-08",
)
