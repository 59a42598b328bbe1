"""COCO captions val2017, CIDEr."""

_base_ = "coco_caption_karpathy.py"
benchmark = dict(
    name="coco_caption_val2017",
    split="val2017",
    source="Chen et al., arXiv 1504.00325",
    dataset=dict(ann_file="annotations/captions_val2017.json", image_prefix="val2017"),
)
