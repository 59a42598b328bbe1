"""Tiny Mini-Gemini: a tiny CLIP mines a tiny ConvNeXt."""

_base_ = [
    "../vision_encoders/clip-tiny.py",
    "../language_models/llama-tiny.py",
]

model = dict(
    type="VisionLanguageModel",
    vision_encoder=dict(
        type="DualVisionEncoder",
        random_init=True,
        low=_base_.vision_encoder,
        high=dict(
            type="TimmConvNeXt",
            model_name="convnext_atto",
            depths=(1, 1, 1, 1),
            dims=(16, 24, 32, 48),
        ),
        image_size=64,
    ),
    connector=dict(
        type="FusedConnector",
        fuser=dict(type="PatchInfoMiningFuser", select_layers=[-2]),
        projector=dict(type="MLPConnector", depth=2, act="gelu"),
    ),
)
