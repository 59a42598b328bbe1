"""RefCOCO val, boxes read and compared as shikras/shikra does; one of its wordings."""

_base_ = "refcoco_val.py"
benchmark = dict(
    name="refcoco_val_shikra",
    source="Kazemzadeh et al., EMNLP 2014; Yu et al., ECCV 2016; shikras/shikra",
    variant="shikra",
    scorer=dict(rule="shikra"),
    dataset=dict(task=dict(templates=["Where is <expr>?"])),
)
