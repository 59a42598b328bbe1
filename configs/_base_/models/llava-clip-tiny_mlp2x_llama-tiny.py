"""A LLaVA of 1.9 M parameters: CLIP and Llama of a few layers, 128 wide.

Both towers start from random weights and are pretrained by the configs in
configs/tiny.
"""

_base_ = "../language_models/llama-tiny.py"

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
            image_size=48,
            patch_size=12,
            hidden_act="gelu",  # CLIP's quick_gelu takes six passes on a CPU
            attn_implementation="eager",
        ),
    ),
    connector=dict(type="MLPConnector", depth=2, act="gelu", select_layers=[-2]),
)
