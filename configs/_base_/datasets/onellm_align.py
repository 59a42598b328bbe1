"""Captions of every modality for OneLLM's alignment, in LLaVA's JSON.

A caption's question is its placeholder alone (``<audio>``); the caption ends with
EOS and has at most 96 tokens (and 32 positions of its input, and BOS). Each step
takes one modality in turn; the smallest dataset ends an epoch. Weights of the
mixture repeat small datasets.
"""

chat_template = dict(type="plain", end_mark="</s>")
onellm_pipeline = [
    dict(type="LoadImages"),
    dict(type="LoadMedia"),
    dict(type="NormalizePoints"),
    dict(type="RandomResizedCropSquare"),
    dict(type="FrameViews", view=dict(type="RandomResizedCropSquare")),
    dict(type="AudioFbank", freq_mask=48, time_mask=192),
    dict(type="EncodeConversation", max_length=129, overflow="truncate_text"),
    dict(type="PackVLMInputs"),
]
train_dataloader = dict(
    batch_size=40,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="SingleModalitySampler", order="round_robin"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="MixtureDataset",
        datasets=[
            dict(
                type="LLaVADataset",
                name=name,
                data_root="data/onellm-align",
                ann_file=f"{name}.json",
                pipeline=onellm_pipeline,
            )
            for name in (
                "laion-coco",
                "webvid",
                "wavcaps",
                "cap3d",
                "cc3m-depth",
                "cc3m-normal",
                "ego4d-imu",
                "nsd",
            )
        ],
    ),
)
