"""RefCOCOg test, boxes as LLaVA writes them."""

_base_ = "refcoco_val.py"
benchmark = dict(
    name="refcocog_test",
    title="RefCOCOg",
    split="test",
    source="Mao et al., CVPR 2016; Nagaraja et al., ECCV 2016; Liu et al., arXiv 2310.03744 (LLaVA-1.5)",
    dataset=dict(ann_file="refcocog/refs(umd).p", split="test"),
    num_items=9602,
    data_version="umd",
)
