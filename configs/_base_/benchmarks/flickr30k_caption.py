"""Flickr30k Karpathy test, CIDEr."""

_base_ = "coco_caption_karpathy.py"
benchmark = dict(
    name="flickr30k_caption",
    title="Flickr30k",
    source="Young et al., TACL 2014; Karpathy and Fei-Fei, CVPR 2015",
    dataset=dict(
        data_root="data/flickr30k",
        ann_file="flickr30k_test_karpathy.json",
        image_prefix="flickr30k-images",
    ),
    num_items=1000,
)
