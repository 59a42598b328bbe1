"""RefCOCO val, boxes read and compared as InternLM/xtuner does; its wording."""

_base_ = "refcoco_val.py"
benchmark = dict(
    name="refcoco_val_xtuner",
    source="Kazemzadeh et al., EMNLP 2014; Yu et al., ECCV 2016; InternLM/xtuner",
    variant="xtuner",
    scorer=dict(rule="xtuner"),
    dataset=dict(task=dict(templates=["[refer] give me the location of <expr>"])),
)
