"""RealWorldQA from the table of VLMEvalKit, in its wording."""

_base_ = "mmstar.py"
benchmark = dict(
    name="realworldqa",
    title="RealWorldQA",
    split="test",
    source="xAI, 2024; VLMEvalKit, commit e8e78f0",
    dataset=dict(ann_file="RealWorldQA.tsv"),
    num_items=765,
    data_version="md5 4de008f55dc4fd008ca9e15321dc44b7",
    chance=None,
)
