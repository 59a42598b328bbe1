"""The mask head's gradients: a step of plain descent by them, at a rate of 1."""

_base_ = "mask_head_config.py"
custom_imports = dict(imports=["mask_head", "left_out"])
# Batch norm would make a step depend on how samples are dealt.
model = dict(train_parts=dict(second=False))
pipeline = [
    dict(type="LoadImages"),
    dict(type="ResizeSquare"),
    dict(type="WriteRegions", codec=dict(type="RegionTokenCodec", token="[SEG]")),
    dict(type="EncodeConversation"),
    dict(type="LeaveOut"),
    dict(type="SecondImage"),
    dict(type="PackVLMInputs"),
]
train_dataloader = dict(
    sampler=dict(shuffle=False), dataset=dict(pipeline=pipeline, indices=8)
)
optimizer = dict(_delete_=True, type="SGD", lr=1.0)
optim_wrapper = dict(optimizer=optimizer, clip_grad=None, accumulative_counts=1)
param_scheduler = []
train_cfg = dict(max_iters=1)
