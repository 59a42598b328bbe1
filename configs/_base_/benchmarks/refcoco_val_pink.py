"""RefCOCO val, boxes read and compared as SY-Xuan/Pink does; the system's wording is not published, so it is LLaVA's."""

_base_ = "refcoco_val.py"
benchmark = dict(
    name="refcoco_val_pink",
    source="Kazemzadeh et al., EMNLP 2014; Yu et al., ECCV 2016; SY-Xuan/Pink",
    variant="pink",
    scorer=dict(rule="pink"),
)
