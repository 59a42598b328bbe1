"""RefCOCO val, boxes read and compared as InternLM/xtuner does; the system's wording is not published, so it is LLaVA's."""

_base_ = "refcoco_val.py"
benchmark = dict(
    name="refcoco_val_xtuner",
    source="Kazemzadeh et al., EMNLP 2014; Yu et al., ECCV 2016; InternLM/xtuner",
    variant="xtuner",
    scorer=dict(rule="xtuner"),
)
