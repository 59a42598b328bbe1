"""Osprey, stage 3: the five files of Osprey-724K and regions of Visual Genome."""

common = dict(bad_samples=dict(policy="skip", max_fraction=0.01))
osprey = dict(
    type="OspreyDataset", data_root="data/osprey", image_prefix="coco_imgs", **common
)
train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="BalancedBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="MixtureDataset",
        name="osprey-724k",
        datasets=[
            dict(osprey, name="short-form", ann_file="osprey_short_form.json"),
            dict(
                osprey,
                name="lvis-positive-negative",
                ann_file="osprey_lvis_positive_negative.json",
            ),
            dict(osprey, name="conversation", ann_file="osprey_conversation.json"),
            dict(
                osprey,
                name="detailed-description",
                ann_file="osprey_detailed_description.json",
            ),
            dict(osprey, name="part-level", ann_file="osprey_part_level.json"),
            dict(
                type="VisualGenomeDataset",
                name="visual-genome",
                data_root="data/visual_genome",
                ann_file="region_descriptions.json",
                image_data="image_data.json",
                image_prefix="",
                with_folder=True,
                task=dict(
                    type="MultiTurn", tasks=[dict(type="RegionCaption")], max_rounds=15
                ),
                **common,
            ),
        ],
    ),
)
