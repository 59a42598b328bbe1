"""RefCOCOg val, masks; cIoU."""

_base_ = "refcoco_seg_val.py"
benchmark = dict(
    name="refcocog_seg_val",
    title="RefCOCOg",
    split="val",
    source="Mao et al., CVPR 2016; Nagaraja et al., ECCV 2016; dvlab-research/LISA",
    dataset=dict(ann_file="refcocog/refs(umd).p", split="val"),
    num_items=4896,
    data_version="umd",
)
