"""GranD-f val, captions with a mask per phrase; mIoU and recall."""

benchmark = dict(
    name="grand_f_val",
    title="GranD-f",
    split="val",
    source="Rasheed et al., CVPR 2024; mbzuai-oryx/groundingLMM",
    dataset=dict(
        type="GranDfDataset",
        data_root="data",
        ann_file="GranDf/annotations/val_test/val_gcg_coco_caption_gt.json",
        masks_file="val_gcg_coco_mask_gt.json",
        image_prefix="GranDf_HA_images/val_test",
        task=dict(
            type="GroundedCaption",
            kind="mask",
            templates=[
                "Could you please give me a detailed description of the image? Please "
                "respond with interleaved segmentation masks for the corresponding "
                "parts of the answer."
            ],
        ),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=512),
    scorer=dict(type="GroundedConversationScorer"),
    headline="miou",
)
