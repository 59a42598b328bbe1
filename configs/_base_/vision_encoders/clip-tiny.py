"""A CLIP of four layers at 48 pixels, 128 wide."""

vision_encoder = dict(
    type="HFVisionEncoder",
    config=dict(
        model_type="clip_vision_model",
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=48,
        patch_size=12,
        attn_implementation="eager",
    ),
)
