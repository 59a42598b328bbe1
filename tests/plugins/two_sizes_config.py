"""Views of 36 or 48 pixels in one batch; a second encoder over 64 pixels is added."""

_base_ = "base.py"
custom_imports = dict(imports="two_sizes")
tower = dict(type="TinyVisionEncoder", width=32, num_layers=1, image_size=64)
model = dict(
    encoders=dict(second=dict(reads=["image_hi"], random_init=True, **tower)),
    connector=dict(_delete_=True, type="AddedTowers", select_layers=[-2]),
)
train_dataloader = dict(
    dataset=dict(
        task=dict(type="ReferringGeneration", kind="box"),
        pipeline=[
            dict(type="LoadImages"),
            dict(type="DrawnSize"),
            dict(
                type="WriteRegions", codec=dict(type="ShikraCodec", geometry="stretch")
            ),
            dict(type="EncodeConversation"),
            dict(type="PackVLMInputs"),
        ],
    )
)
