"""Tiny LLaVA-HR: a tiny ConvNeXt adapts a tiny CLIP."""

_base_ = [
    "../vision_encoders/clip-tiny.py",
    "../language_models/llama-tiny.py",
]

model = dict(
    type="VisionLanguageModel",
    vision_encoder=dict(
        type="MixtureOfResolutionVisionEncoder",
        random_init=True,
        low=_base_.vision_encoder,
        high=dict(
            type="TimmConvNeXt",
            model_name="convnext_atto",
            depths=(1, 1, 1, 1),
            dims=(16, 24, 32, 48),
        ),
        image_size=128,
        stages=(1, 2, 3),
    ),
    connector=dict(type="MLPConnector", depth=2, act="gelu", select_layers=[-1]),
)
