"""RefCOCO val, boxes read and compared as yuecao0119/MMFuser does; the system's wording is not published, so it is LLaVA's."""

_base_ = "refcoco_val.py"
benchmark = dict(
    name="refcoco_val_mmfuser",
    source="Kazemzadeh et al., EMNLP 2014; Yu et al., ECCV 2016; yuecao0119/MMFuser",
    variant="mmfuser",
    scorer=dict(rule="mmfuser"),
)
