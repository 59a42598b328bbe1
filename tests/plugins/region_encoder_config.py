"""Regions of questions as pooled features; expressions as answers."""

_base_ = "base.py"
custom_imports = dict(imports="region_encoder")
codec = dict(type="RegionTokenCodec", token="<region>")
tokenizer = dict(codec=codec)
model = dict(
    connectors=dict(region_encoder=dict(type="MaskPooling", select_layers=[-2])),
)
train_dataloader = dict(
    dataset=dict(
        task=dict(type="ReferringGeneration", kind=["box", "point", "mask"]),
        pipeline=[
            dict(type="LoadImages"),
            dict(type="ResizeSquare"),
            dict(type="WriteRegions", codec=codec),
            dict(type="EncodeConversation"),
            dict(type="RegionMasks"),
            dict(type="PackVLMInputs"),
        ],
    )
)
