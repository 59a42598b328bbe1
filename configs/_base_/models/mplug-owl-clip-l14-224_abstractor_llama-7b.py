"""mPLUG-Owl: CLIP ViT-L/14 at 224 px, abstractor with 64 queries, Llama-7B."""

_base_ = [
    "../vision_encoders/clip-l14-224.py",
    "../language_models/llama-7b.py",
]

model = dict(
    type="VisionLanguageModel",
    vision_encoder=_base_.vision_encoder,
    connector=dict(type="AbstractorConnector", num_queries=64, select_layers=[-1]),
    generation=dict(max_new_tokens=256, do_sample=False),
)
