"""Which of two classes a box of LVIS holds (referring object classification); pairs are not Ferret's."""

benchmark = dict(
    name="lvis_box",
    title="LVIS",
    split="val",
    source="Gupta et al., CVPR 2019; apple/ml-ferret",
    dataset=dict(
        type="LVISDataset",
        data_root="data/lvis",
        ann_file="lvis_v1_val.json",
        image_prefix="",
        per="instance",
        task=dict(type="RegionNaming", kind="box"),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=64),
    scorer=dict(type="RegionNamingScorer"),
    headline="acc",
    variant="box",
    chance=50.0,
    data_version="v1",
)
