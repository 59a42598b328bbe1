"""GranD-f test, captions with a mask per phrase; mIoU and recall."""

_base_ = "grand_f_val.py"
benchmark = dict(
    name="grand_f_test",
    split="test",
    dataset=dict(
        ann_file="GranDf/annotations/val_test/test_gcg_coco_caption_gt.json",
        masks_file="test_gcg_coco_mask_gt.json",
    ),
)
