"""RefCOCO val, boxes read and compared as QwenLM/Qwen-VL does; the expression, which its codec marks."""

_base_ = "refcoco_val.py"
benchmark = dict(
    name="refcoco_val_qwen_vl",
    source="Kazemzadeh et al., EMNLP 2014; Yu et al., ECCV 2016; QwenLM/Qwen-VL",
    variant="qwen_vl",
    scorer=dict(rule="qwen_vl"),
    dataset=dict(task=dict(templates=["<expr>"])),
)
