"""The miniature for pictures of 96 pixels: a grid of 8 x 8 patches.

For TinyScenes in the tangled style, whose regions are told apart by their pixels.
"""

_base_ = "../language_models/llama-tiny.py"

tiny_root = "data/tiny_scenes_tangled"
tokenizer = dict(name_or_path=tiny_root + "/tokenizer")
model = dict(
    type="VisionLanguageModel",
    vision_encoder=dict(
        type="HFVisionEncoder",
        random_init=True,
        config=dict(
            model_type="clip_vision_model",
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            image_size=96,
            patch_size=12,
            hidden_act="gelu",
            attn_implementation="eager",
        ),
    ),
    connector=dict(type="MLPConnector", depth=2, act="gelu", select_layers=[-2]),
)
