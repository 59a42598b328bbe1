"""CLIP ViT-L/14 at 224 px."""

vision_encoder = dict(
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
)
