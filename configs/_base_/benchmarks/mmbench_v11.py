"""MMBench dev v1.1 as VLMEvalKit asks it, circular, read without a judge."""

_base_ = "mmstar.py"
benchmark = dict(
    name="mmbench_v11",
    title="MMBench v1.1",
    split="dev",
    source="Liu et al., ECCV 2024; VLMEvalKit, commit e8e78f0",
    dataset=dict(ann_file="MMBench_DEV_EN_V11.tsv", item_groups="circular"),
    scorer=dict(average="groups"),
    cluster="group",
    data_version="md5 30c05be8f2f347a50be25aa067248184",
    chance=None,
    num_items=None,  # no source of this count was found
)
