"""AI2D (no mask) from the table of VLMEvalKit, in its wording."""

_base_ = "mmstar.py"
benchmark = dict(
    name="ai2d_no_mask",
    title="AI2D (no mask)",
    split="test",
    source="Kembhavi et al., ECCV 2016; VLMEvalKit, commit e8e78f0",
    dataset=dict(ann_file="AI2D_TEST_NO_MASK.tsv"),
    num_items=3088,
    data_version="md5 fd8f463634d4fe9fbd23b876e8eea5be",
)
