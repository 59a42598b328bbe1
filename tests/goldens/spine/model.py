"""The demo's model, a quarter as wide and half as deep, for the pins of this folder."""

_base_ = [
    "../../../configs/tiny/llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py"
]

model = dict(
    vision_encoder=dict(
        config=dict(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
        )
    ),
    language_model=dict(
        config=dict(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
        )
    ),
    train_parts=dict(vision_encoder=True),
    generation=dict(max_new_tokens=24),
)
load_from = None
