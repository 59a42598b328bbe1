"""LaVIN-7B: CLIP ViT-L/14 and LLaMA with routed adapters, six class tokens."""

_base_ = "./flamingo-clip-l14-224_perceiver_llama-7b.py"

model = dict(
    vision_encoder=dict(
        _delete_=True,
        type="LaVINVisionEncoder",
        vision_encoder=dict(
            type="HFVisionEncoder",
            name_or_path="openai/clip-vit-large-patch14",
            config=dict(
                model_type="clip_vision_model",
                hidden_size=1024,
                intermediate_size=4096,
                num_hidden_layers=24,
                num_attention_heads=16,
                image_size=224,
                patch_size=14,
                hidden_act="quick_gelu",
                projection_dim=768,
            ),
            torch_dtype="bfloat16",
        ),
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
