"""Tiny Osprey: a ConvNeXt of 96 pixels, 6 x 6 tokens, masks of 24 x 24 cells."""

_base_ = "../language_models/llama-tiny.py"

model = dict(
    type="VisionLanguageModel",
    vision_encoder=dict(
        type="ConvNeXtVisionEncoder",
        random_init=True,
        encoder=dict(
            type="TimmConvNeXt",
            model_name="convnext_atto",
            depths=(1, 1, 2, 1),
            dims=(32, 48, 96, 128),
        ),
        image_size=96,
    ),
    connector=dict(
        type="MLPConnector",
        depth=2,
        act="gelu",
        select_layers=[-1],
        random_init=True,
    ),
    connectors=dict(
        region_encoder=dict(
            type="MaskExtractor",
            mask_side=24,
            place_side=12,
            hidden_width=128,
            select_layers=[-1],
            random_init=True,
        )
    ),
)
