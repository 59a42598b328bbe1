"""OCRBench with the short-answer line, as the official script asks LLaVA-1.5."""

_base_ = "ocrbench.py"
benchmark = dict(
    name="ocrbench_suffix",
    source="Liu et al., arXiv 2305.07895; Yuliang-Liu/MultimodalOCR",
    dataset=dict(
        task=dict(suffix="Answer the question using a single word or phrase.")
    ),
    variant="short answer",
)
