"""Region captioning of Visual Genome, all regions of a file (its test splits differ by paper)."""

benchmark = dict(
    name="vg_region_caption",
    title="Visual Genome",
    split="all",
    source="Krishna et al., IJCV 2017",
    dataset=dict(
        type="VisualGenomeDataset",
        data_root="data/visual_genome",
        ann_file="region_descriptions.json",
        image_data="image_data.json",
        image_prefix="",
        with_folder=True,
        per="region",
        task=dict(
            type="RegionCaption",
            templates=["Please provide a short description for this region: <objs>"],
            names=False,
        ),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=64),
    scorer=dict(type="CaptionScorer"),
    headline="cider",
    ceiling=1000.0,
)
