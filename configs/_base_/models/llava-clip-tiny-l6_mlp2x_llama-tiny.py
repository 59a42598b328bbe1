"""The miniature with a tower of six layers, which sees images at 48 pixels.

Its shallow layers still hold what the last one has no reason to keep; see
SceneStyle FINE in mmvlm/datasets/tiny_scenes/styles.py, whose images have 96.
"""

_base_ = "../language_models/llama-tiny.py"

tiny_root = "data/tiny_scenes_fine"
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
            num_hidden_layers=6,
            num_attention_heads=4,
            image_size=48,
            patch_size=12,
            attn_implementation="eager",
        ),
    ),
    connector=dict(type="MLPConnector", depth=2, act="gelu", select_layers=[-2]),
    generation=dict(max_new_tokens=32, do_sample=False),
)
