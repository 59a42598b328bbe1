"""An Emu of 1.8 M parameters on the towers of the tiny LLaVA.

The tiny vocabulary has no [IMG]; brackets are the marks around an image.
"""

_base_ = [
    "../vision_encoders/clip-tiny.py",
    "../language_models/llama-tiny.py",
]

chat_template = dict(image_prefix="(", image_suffix=")")
model = dict(
    type="VisionLanguageModel",
    vision_encoder=dict(_base_.vision_encoder, random_init=True),
    connector=dict(
        type="CausalFormerConnector",
        num_queries=16,
        width=128,
        num_layers=3,
        num_heads=4,
        head_width=32,
        intermediate_size=512,
        dropout=0.0,
        select_layers=[-1],
    ),
    heads=dict(head=dict(type="VisualRegressionHead", weight=1.0)),
)
