"""RefCOCOg test, masks; cIoU."""

_base_ = "refcoco_seg_val.py"
benchmark = dict(
    name="refcocog_seg_test",
    title="RefCOCOg",
    split="test",
    source="Mao et al., CVPR 2016; Nagaraja et al., ECCV 2016; dvlab-research/LISA",
    dataset=dict(ann_file="refcocog/refs(umd).p", split="test"),
    num_items=9602,
    data_version="umd",
)
