"""Expressions are asked for, masks are answered: [SEG] and a second image of 64 px."""

_base_ = "base.py"
custom_imports = dict(imports="mask_head")
codec = dict(type="RegionTokenCodec", token="[SEG]")
tokenizer = dict(codec=codec)
tower = dict(type="TinyVisionEncoder", width=32, num_layers=1, image_size=64)
model = dict(
    encoders=dict(second=dict(reads=["image_hi"], random_init=True, **tower)),
    heads=dict(mask=dict(type="DotMaskHead", weight=dict(mask_bce=2.0, mask_dice=0.5))),
)
pipeline = [
    dict(type="LoadImages"),
    dict(type="ResizeSquare"),
    dict(type="WriteRegions", codec=codec),
    dict(type="EncodeConversation"),
    dict(type="SecondImage"),
    dict(type="PackVLMInputs"),
]
task = dict(type="ReferringSegmentation")
train_dataloader = dict(dataset=dict(task=task, pipeline=pipeline))
