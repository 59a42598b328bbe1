"""TextCaps val, CIDEr."""

benchmark = dict(
    name="textcaps_val",
    title="TextCaps",
    split="val",
    source="Sidorov et al., ECCV 2020, v0.1",
    dataset=dict(
        type="TextCapsDataset",
        data_root="data/textcaps",
        ann_file="TextCaps_0.1_val.json",
        image_prefix="train_images",
        task=dict(
            type="ImageCaption",
            prompts=["Provide a one-sentence caption for the provided image."],
        ),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=64),
    scorer=dict(type="CaptionScorer"),
    headline="cider",
    ceiling=1000.0,
    num_items=3166,
    data_version="0.1",
)
