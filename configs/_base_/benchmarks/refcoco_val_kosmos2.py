"""RefCOCO val, boxes read and compared as microsoft/unilm does; the expression alone."""

_base_ = "refcoco_val.py"
benchmark = dict(
    name="refcoco_val_kosmos2",
    source="Kazemzadeh et al., EMNLP 2014; Yu et al., ECCV 2016; microsoft/unilm",
    variant="kosmos2",
    scorer=dict(rule="kosmos2"),
    dataset=dict(task=dict(templates=["<expr>"])),
)
