"""LLaVA-1.5 7B: CLIP ViT-L/14 at 336 px, 2-layer MLP, Vicuna-7B v1.5."""

_base_ = [
    "../vision_encoders/clip-l14-336.py",
    "../language_models/vicuna-v15-7b.py",
]

model = dict(
    type="VisionLanguageModel",
    vision_encoder=_base_.vision_encoder,
    connector=dict(type="MLPConnector", depth=2, act="gelu", select_layers=[-2]),
    generation=dict(max_new_tokens=128, do_sample=False),
)
