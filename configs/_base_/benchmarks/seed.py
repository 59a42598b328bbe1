"""SEED-Bench, images and middle frames of videos."""

benchmark = dict(
    name="seed",
    title="SEED",
    split="all",
    source="Li et al., arXiv 2307.16125; Liu et al., arXiv 2310.03744 (LLaVA-1.5)",
    dataset=dict(
        type="SEEDBenchDataset",
        data_root="data/seed_bench",
        ann_file="SEED-Bench.json",
        task=dict(
            type="MultipleChoice",
            suffix="Answer with the option's letter from the given choices directly.",
        ),
        frame_name="SEED-Bench-video-image/{image_id}.jpg",
        evaluate=True,
    ),
    generation=dict(max_new_tokens=128),
    scorer=dict(type="SEEDScorer", rule="exact_letter"),
    headline="acc",
    chance=25.0,
    num_items=19242,
    data_version="v1",
    submission=dict(type="seed"),
)
