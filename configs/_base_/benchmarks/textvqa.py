"""TextVQA val without OCR tokens: about ten points below the usual number."""

_base_ = "textvqa_ocr.py"
benchmark = dict(
    name="textvqa",
    source="Singh et al., CVPR 2019",
    dataset=dict(task=dict(hint_line=None), ocr_file=None),
    variant="no OCR tokens",
    data_version="0.5.1",
)
