"""Descriptions are given, images are answered: 3 x 3 codes of the vocabulary."""

_base_ = "base.py"
custom_imports = dict(imports="image_codes")
codes = ["[IMG]", *(f"[I{number}]" for number in range(8))]
tokenizer = dict(additional_special_tokens=codes)
model = dict(
    vision_encoder=None, connector=None, heads=dict(codes=dict(type="CodesToImage"))
)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="LLaVADataset",
        data_root="data",
        ann_file="pretrain.json",
        indices=16,
        pipeline=[
            dict(type="LoadImages"),
            dict(type="WriteImageCodes"),
            dict(type="EncodeConversation"),
            dict(type="PackVLMInputs"),
        ],
    )
)
