"""Expressions are asked for, boxes are answered by a head that reads [LOC]."""

_base_ = "base.py"
custom_imports = dict(imports="box_head")
codec = dict(type="RegionTokenCodec", token="[LOC]", reads="box")
tokenizer = dict(codec=codec)
model = dict(heads=dict(box=dict(type="BoxHead", weight=10.0)))
pipeline = [
    dict(type="LoadImages"),
    dict(type="ResizeSquare"),
    dict(type="WriteRegions", codec=codec),
    dict(type="EncodeConversation"),
    dict(type="BoxTargets"),
    dict(type="PackVLMInputs"),
]
task = dict(type="ReferringComprehension")
train_dataloader = dict(dataset=dict(task=task, pipeline=pipeline, indices=8))
optim_wrapper = dict(paramwise_cfg=dict(parts=dict(box=dict(lr=1e-2))))
