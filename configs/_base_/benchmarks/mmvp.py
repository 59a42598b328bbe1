"""MMVP: a pair of nearly equal images counts when both answers are right."""

_base_ = "mmstar.py"
benchmark = dict(
    name="mmvp",
    title="MMVP",
    split="test",
    source="Tong et al., CVPR 2024; VLMEvalKit, commit e8e78f0",
    dataset=dict(ann_file="MMVP.tsv", item_groups="pairs"),
    scorer=dict(average="groups"),
    cluster="group",
    num_items=300,
    data_version="md5 8cb732b141a0cba5b42159df2839e557",
)
