"""MathVista testmini: a judge extracts the answers."""

benchmark = dict(
    name="mathvista",
    title="MathVista",
    split="testmini",
    source="Lu et al., ICLR 2024; lupantech/MathVista",
    dataset=dict(
        type="MathVistaDataset",
        data_root="data/MathVista",
        ann_file="testmini.json",
        evaluate=True,
    ),
    generation=dict(max_new_tokens=1024),
    scorer=dict(type="MathVistaScorer"),
    headline="acc",
    num_items=1000,
    data_version="testmini",
)
