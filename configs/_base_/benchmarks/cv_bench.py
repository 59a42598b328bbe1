"""CV-Bench from the table of VLMEvalKit, in its wording."""

_base_ = "mmstar.py"
benchmark = dict(
    name="cv_bench",
    title="CV-Bench",
    split="test",
    source="Tong et al., NeurIPS 2024; VLMEvalKit, commit e8e78f0",
    dataset=dict(ann_file="CV-Bench-{2D,3D}.tsv"),
    scorer=dict(
        average="categories",
        by="source",
        weights=dict(ADE20K=0.25, COCO=0.25, Omni3D=0.5),
    ),
    num_items=2638,
    chance=None,
    data_version="md5 a7cff4cc2857cc237ee2b89e62bccb2d (2D), bb94c0d568d652d15b60e001ac40a170 (3D)",
)
