"""RefCOCO val, boxes read and compared as OFA-Sys/OFA does; its wording."""

_base_ = "refcoco_val.py"
benchmark = dict(
    name="refcoco_val_ofa",
    source="Kazemzadeh et al., EMNLP 2014; Yu et al., ECCV 2016; OFA-Sys/OFA",
    variant="ofa",
    scorer=dict(rule="ofa"),
    dataset=dict(
        task=dict(templates=['which region does the text " <expr> " describe?'])
    ),
)
