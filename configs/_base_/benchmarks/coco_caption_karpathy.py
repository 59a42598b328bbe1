"""COCO captions Karpathy test, CIDEr."""

benchmark = dict(
    name="coco_caption_karpathy",
    title="COCO captions",
    split="Karpathy test",
    source="Chen et al., arXiv 1504.00325; Karpathy and Fei-Fei, CVPR 2015",
    dataset=dict(
        type="COCOCaptionsDataset",
        data_root="data/coco",
        ann_file="coco_karpathy_test_gt.json",
        image_prefix="val2014",
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
    num_items=5000,
)
