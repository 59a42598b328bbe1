"""V* from the table of VLMEvalKit, in its wording."""

_base_ = "mmstar.py"
benchmark = dict(
    name="vstar",
    title="V*",
    split="test",
    source="Wu and Xie, CVPR 2024; VLMEvalKit, commit e8e78f0",
    dataset=dict(ann_file="VStarBench.tsv"),
    num_items=191,
    chance=None,
    data_version="md5 b18854d7075574be06b631cd5f7d2d6a",
)
