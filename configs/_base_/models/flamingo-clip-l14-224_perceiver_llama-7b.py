"""OpenFlamingo-9B: CLIP ViT-L/14, perceiver resampler, cross-attention in LLaMA-7B."""

_base_ = [
    "../vision_encoders/clip-l14-224.py",
    "../language_models/llama-7b.py",
]

model = dict(
    type="VisionLanguageModel",
    vision_encoder=_base_.vision_encoder,
    connector=dict(
        type="PerceiverResamplerConnector",
        depth=6,
        heads=8,
        dim_head=64,
        num_latents=64,
        select_layers=[-1],
    ),
    language_model=dict(adapters=[dict(type="GatedCrossAttentionAdapter", every=4)]),
    generation=dict(max_new_tokens=128, do_sample=False),
)
