"""LLaVA-1.5 mix 665K: instruction data, padded squares, grouped by modality.

Images lie below ``data_root`` in the folders that the annotations name: coco/train2017,
gqa/images, ocr_vqa/images, textvqa/train_images, vg/VG_100K, vg/VG_100K_2.
"""

chat_template = "vicuna_v1"
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="ModalityLengthSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="LLaVADataset",
        name="llava-665k",
        data_root="data/llava-finetune",
        ann_file="llava_v1_5_mix665k.json",
        # Public files hold a few empty or cut images; they are counted.
        bad_samples=dict(policy="skip", max_fraction=0.01),
        image_prefix="",
        pipeline=[
            dict(type="LoadImages", any_suffix=True),
            dict(type="PadToSquare"),
            dict(type="EncodeConversation", max_length=2048, overflow="truncate_text"),
            dict(type="PackVLMInputs"),
        ],
    ),
)
