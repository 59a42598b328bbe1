"""Shikra, stage 0: expressions of RefCOCO, RefCOCO+, RefCOCOg and Visual Genome."""

common = dict(bad_samples=dict(policy="skip", max_fraction=0.01))
comprehension = dict(type="ReferringComprehension", answer="Answer: <boxes> .")
visual_genome = dict(
    type="VisualGenomeDataset",
    data_root="data/visual_genome",
    ann_file="region_descriptions.json",
    also=["objects.json", "attributes.json", "relationships.json"],
    image_data="image_data.json",
    image_prefix="",
    with_folder=True,
    **common,
)
rec = dict(
    type="FlatReferringDataset",
    name="rec",
    data_root="data/shikra",
    ann_file="REC_ref3_train.jsonl",
    image_prefix="train2014",
    dialect="shikra",
    task=comprehension,
    **common,
)
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="BalancedBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="MixtureDataset",
        name="shikra-rec",
        datasets=[
            rec,
            dict(visual_genome, name="rec-vg", task=comprehension),
        ],
    ),
)
