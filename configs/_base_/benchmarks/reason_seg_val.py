"""ReasonSeg val, masks of free answers; LISA reads those of a given answer."""

benchmark = dict(
    name="reason_seg_val",
    title="ReasonSeg",
    split="val",
    source="Lai et al., CVPR 2024; dvlab-research/LISA",
    dataset=dict(
        type="ReasonSegDataset",
        data_root="data/reason_seg/ReasonSeg",
        ann_file="val",
        task=dict(
            type="ReasoningSegmentation",
            take="first",
            explain=False,
            ask_empty=True,
            # The official prompts, with their space behind the line break.
            names=[" What is <name> in this image? Please output segmentation mask."],
            sentences=[" <text> Please output segmentation mask."],
            answers=["<mask>."],
        ),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=32),
    scorer=dict(type="MaskScorer", rule="giou"),
    headline="giou",
    variant="free answer",
    num_items=200,
)
