"""SEED-IMG from the table of VLMEvalKit, in its wording."""

_base_ = "mmstar.py"
benchmark = dict(
    name="seed_img_vlmevalkit",
    title="SEED-IMG",
    split="image",
    source="Li et al., arXiv 2307.16125; VLMEvalKit, commit e8e78f0",
    dataset=dict(ann_file="SEEDBench_IMG.tsv"),
    num_items=None,  # no source of the rows of this table was found
    data_version="md5 68017231464752261a2526d6ca3a10c0",
)
