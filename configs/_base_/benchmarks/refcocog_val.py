"""RefCOCOg val, boxes as LLaVA writes them."""

_base_ = "refcoco_val.py"
benchmark = dict(
    name="refcocog_val",
    title="RefCOCOg",
    split="val",
    source="Mao et al., CVPR 2016; Nagaraja et al., ECCV 2016; Liu et al., arXiv 2310.03744 (LLaVA-1.5)",
    dataset=dict(ann_file="refcocog/refs(umd).p", split="val"),
    num_items=4896,
    data_version="umd",
)
