"""Tiny LaVIN: class tokens of every layer, routed adapters, all parts learn.

Reproduces: LaVIN's adapters in both towers in the small.
Command: tools/train.py configs/tiny/lavin-clip-tiny_layer-tokens_llama-tiny_1xb96-2k-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = ["./llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py"]

model = dict(
    vision_encoder=dict(
        _delete_=True,
        type="LaVINVisionEncoder",
        vision_encoder=dict(
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
        ),
        hidden=8,
        temperature=10.0,
    ),
    connector=dict(_delete_=True, type="LayerTokensConnector", hidden=128, every=1),
    language_model=dict(
        adapters=[dict(type="LaVINAdapter", hidden=8, temperature=10.0, dropout=0.1)]
    ),
)
load_from = [
    dict(
        path="work_dirs/clip-tiny_contrastive_none_1xb192-1600i-pt_tiny-scenes",
        parts=["vision_encoder"],
        strict=False,  # the tower alone has no adapters
    ),
    dict(
        path="work_dirs/text_none_llama-tiny_1xb64-600i-pt_tiny-scenes",
        parts=["language_model"],
    ),
]
