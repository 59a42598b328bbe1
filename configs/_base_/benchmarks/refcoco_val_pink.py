"""RefCOCO val, boxes read and compared as SY-Xuan/Pink does; one of its wordings."""

_base_ = "refcoco_val.py"
benchmark = dict(
    name="refcoco_val_pink",
    source="Kazemzadeh et al., EMNLP 2014; Yu et al., ECCV 2016; SY-Xuan/Pink",
    variant="pink",
    scorer=dict(rule="pink"),
    dataset=dict(task=dict(templates=["Where is <expr>?"])),
)
