"""OneLLM's instruction mix of 2M items over eight modalities and text.

One file in LLaVA's JSON per modality: image 1216K, video 461K, audio 60K, point 70K,
depth 50K, normal 50K, imu 50K, fmri 9K, text 40K. Steps hold one modality, samples of
similar length together.
"""

chat_template = "onellm"
onellm_pipeline = [
    dict(type="LoadImages"),
    dict(type="LoadMedia"),
    dict(type="RandomResizedCropSquare"),
    dict(type="FrameViews", view=dict(type="RandomResizedCropSquare")),
    dict(type="AudioFbank", freq_mask=48, time_mask=192),
    dict(type="EncodeConversation", max_length=2048, overflow="truncate_text"),
    dict(type="PackVLMInputs"),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="SingleModalitySampler", order="shuffled"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="MixtureDataset",
        datasets=[
            dict(
                type="LLaVADataset",
                name=name,
                data_root="data/onellm-finetune",
                ann_file=f"{name}.json",
                pipeline=onellm_pipeline,
            )
            for name in (
                "image",
                "video",
                "audio",
                "point",
                "depth",
                "normal",
                "imu",
                "fmri",
                "text",
            )
        ],
    ),
)
