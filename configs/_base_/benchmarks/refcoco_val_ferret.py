"""RefCOCO val, boxes read and compared as apple/ml-ferret does; its wording."""

_base_ = "refcoco_val.py"
benchmark = dict(
    name="refcoco_val_ferret",
    source="Kazemzadeh et al., EMNLP 2014; Yu et al., ECCV 2016; apple/ml-ferret",
    variant="ferret",
    scorer=dict(rule="ferret"),
    dataset=dict(task=dict(templates=["What is the location of <expr> in the image?"])),
)
