"""Questions about a sound and an image that stand in one conversation."""

_base_ = "base.py"
custom_imports = dict(imports="sound")
model = dict(connectors=dict(sound=dict(type="SoundProjector", random_init=True)))
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="LLaVADataset",
        data_root="data",
        ann_file="train_modalities.json",
        indices=48,
        filter_cfg=dict(modality="audio"),
        pipeline=[
            dict(type="ShowScene"),
            dict(type="LoadImages"),
            dict(type="LoadMedia"),
            dict(type="ResizeSquare"),
            dict(type="AudioFbank", num_mel_bins=32, num_frames=64),
            dict(type="EncodeConversation"),
            dict(type="PackVLMInputs"),
        ],
    )
)
