"""RefCOCOg, Flickr30k and Visual Genome: a region is shown and described."""

pipeline = [
    dict(type="LoadImages", any_suffix=True),
    dict(type="ResizeSquare"),
    dict(type="WriteRegions", codec=dict(type="RegionTokenCodec", token="<bbox>")),
    dict(type="PrepareRegions"),
    dict(type="EncodeConversation", max_length=2048, overflow="truncate_text"),
    dict(type="PackVLMInputs"),
]
common = dict(bad_samples=dict(policy="skip", max_fraction=0.01), pipeline=pipeline)
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="BalancedBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="MixtureDataset",
        name="gpt4roi-descriptions",
        datasets=[
            dict(
                type="MDETRDataset",
                name="refcocog",
                data_root="data/mdetr_annotations",
                ann_file="finetune_refcocog_train.json",
                image_prefix="train2014",
                task=dict(type="ReferringGeneration"),
                **common,
            ),
            dict(
                type="MDETRDataset",
                name="flickr30k",
                data_root="data/mdetr_annotations",
                ann_file="final_flickr_mergedGT_train.json",
                image_prefix="flickr30k-images",
                kind="caption",
                task=dict(type="RegionCaption"),
                **common,
            ),
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
            dict(
                type="LLaVADataset",
                name="llava-150k",
                data_root="data/llava",
                ann_file="llava_instruct_150k.json",
                image_prefix="train2017",
                **common,
            ),
        ],
    ),
)
