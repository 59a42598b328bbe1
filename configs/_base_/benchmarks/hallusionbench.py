"""HallusionBench, rows with an image, as VLMEvalKit scores it."""

benchmark = dict(
    name="hallusionbench",
    title="HallusionBench",
    split="image",
    source="Guan et al., CVPR 2024; VLMEvalKit, commit e8e78f0",
    dataset=dict(
        type="OptionTSVDataset",
        data_root="data/LMUData",
        ann_file="HallusionBench.tsv",
        with_image=True,
        task=dict(type="VisualQuestionAnswering", suffix="Please answer yes or no."),
        evaluate=True,
    ),
    generation=dict(max_new_tokens=128),
    scorer=dict(type="HallusionBenchScorer"),
    headline="aAcc",
    variant="VLMEvalKit",
    chance=50.0,
    num_items=951,
    data_version="md5 0c23ac0dc9ef46832d7a24504f2a0c7c",
)
