"""AI2D from the table of VLMEvalKit, in its wording."""

_base_ = "mmstar.py"
benchmark = dict(
    name="ai2d",
    title="AI2D",
    split="test",
    source="Kembhavi et al., ECCV 2016; VLMEvalKit, commit e8e78f0",
    dataset=dict(ann_file="AI2D_TEST.tsv"),
    num_items=3088,
    data_version="md5 0f593e0d1c7df9a3d69bf1f947e71975",
)
