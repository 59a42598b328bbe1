"""BLINK from the table of VLMEvalKit, in its wording."""

_base_ = "mmstar.py"
benchmark = dict(
    name="blink",
    title="BLINK",
    source="Fu et al., ECCV 2024; VLMEvalKit, commit e8e78f0",
    dataset=dict(ann_file="BLINK.tsv"),
    scorer=dict(average="categories"),
    num_items=1901,
    data_version="md5 d5e8af148b10ac69f535ff7b23f3f989",
    chance=None,
)
