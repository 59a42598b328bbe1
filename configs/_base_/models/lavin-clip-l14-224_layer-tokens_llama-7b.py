"""LaVIN-7B: CLIP ViT-L/14 and LLaMA with routed adapters, six class tokens."""

_base_ = "./flamingo-clip-l14-224_perceiver_llama-7b.py"

model = dict(
    vision_encoder=dict(
        _delete_=True,
        type="LaVINVisionEncoder",
        vision_encoder=_base_.vision_encoder,
        hidden=8,
        groups=2,
        temperature=10.0,
        route_by="token",
    ),
    connector=dict(_delete_=True, type="LayerTokensConnector", hidden=128, every=4),
    language_model=dict(
        adapters=[dict(type="LaVINAdapter", hidden=8, groups=2, temperature=10.0)]
    ),
)
