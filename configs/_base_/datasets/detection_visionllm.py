"""COCO and Objects365: all boxes of a class, as VisionLLM's tokens."""

chat_template = "vicuna_v1"
pipeline = [
    dict(type="LoadImages", any_suffix=True),
    dict(type="ResizeSquare"),
    dict(type="WriteRegions", codec=dict(type="VisionLLMCodec")),
    dict(type="EncodeConversation", max_length=2048, overflow="truncate_text"),
    dict(type="PackVLMInputs"),
]
common = dict(bad_samples=dict(policy="skip", max_fraction=0.01), pipeline=pipeline)
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="BalancedBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="MixtureDataset",
        name="detection-visionllm",
        datasets=[
            dict(
                type="CocoDetectionDataset",
                name="coco",
                data_root="data/coco",
                ann_file="annotations/instances_train2017.json",
                image_prefix="train2017",
                task=dict(type="CategoryDetection"),
                **common,
            ),
            dict(
                type="Objects365Dataset",
                name="objects365",
                data_root="data/objects365",
                ann_file="annotations/zhiyuan_objv2_train.json",
                image_prefix="train",
                task=dict(type="CategoryDetection"),
                **common,
            ),
        ],
    ),
)
