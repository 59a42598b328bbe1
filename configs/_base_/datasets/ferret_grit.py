"""Ferret's GRIT: ten files with places of boxes and points, weighted as its script."""

pipeline = [
    dict(type="LoadImages", any_suffix=True),
    dict(type="ResizeSquare"),
    dict(type="WriteRegions", codec=dict(type="FerretCodec")),
    dict(type="PrepareRegions"),
    dict(type="EncodeConversation", max_length=2048, overflow="truncate_text"),
    dict(type="PackVLMInputs"),
]
common = dict(
    type="FerretGRITDataset",
    data_root="data/grit",
    point_share=0.5,
    point="center",
    bad_samples=dict(policy="skip", max_fraction=0.01),
    pipeline=pipeline,
)
vg, coco = dict(image_prefix="vg/images"), dict(image_prefix="coco2014/train2014")
llava = dict(source="grounded_llava_boxes", **coco)
train_dataloader = dict(
    batch_size=16,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="BalancedBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="MixtureDataset",
        name="grit",
        weights=[3, 1, 0.2, 0.2, 1, 1, 1, 1, 1, 1],
        datasets=[
            dict(name="instruct", ann_file="git_instruction.json", **coco, **common),
            dict(name="vg-objects", ann_file="vg_objects.json", **vg, **common),
            dict(name="vg-relations", ann_file="vg_relations.json", **vg, **common),
            dict(name="vg-regions", ann_file="vg_regions.json", **vg, **common),
            dict(
                name="llava-detail",
                ann_file="grounded_llava_boxes_detail.json",
                **llava,
                **common,
            ),
            dict(
                name="llava-reasoning",
                ann_file="grounded_llava_boxes_complex_reasoning.json",
                **llava,
                **common,
            ),
            dict(
                name="llava-conversation",
                ann_file="grounded_llava_boxes_conversation.json",
                **llava,
                **common,
            ),
            dict(name="refexp", ann_file="refexp_all.json", **coco, **common),
            dict(
                name="flickr",
                ann_file="flickr.json",
                image_prefix="flickr30k/train",
                **common,
            ),
            dict(
                name="objects365",
                ann_file="objects365.json",
                image_prefix="objects365/train",
                **common,
            ),
        ],
    ),
)
