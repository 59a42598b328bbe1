"""MMMU val, the first image only, as the scripts of LLaVA ask it."""

benchmark = dict(
    name="mmmu_val",
    title="MMMU",
    split="val",
    source="Yue et al., CVPR 2024; MMMU-Benchmark/MMMU",
    dataset=dict(
        type="MMMUDataset",
        data_root="data/mmmu",
        ann_file="*/validation-*.parquet",
        evaluate=True,
    ),
    generation=dict(max_new_tokens=128),
    scorer=dict(type="MMMUScorer", rule="fallback_wrong"),
    headline="acc",
    variant="first image",
    num_items=900,
)
