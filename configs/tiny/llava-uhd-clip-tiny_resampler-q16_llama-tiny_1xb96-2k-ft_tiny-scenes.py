"""Tiny LLaVA-UHD: slices with separators behind a resampler of 16 queries.

Reproduces: LLaVA-UHD in the small; slices are cut as if a view had 24 pixels.
Command: tools/train.py configs/tiny/llava-uhd-clip-tiny_resampler-q16_llama-tiny_1xb96-2k-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = ["./llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py"]

model = dict(
    vision_encoder=dict(
        _delete_=True,
        type="AnyAspectVisionEncoder",
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
    ),
    connector=dict(
        _delete_=True,
        type="SlicedConnector",
        whole_last=True,
        connector=dict(
            type="ResamplerConnector",
            grid=4,
            heads=4,
            post_proj="matrix",
            select_layers=[-2],
        ),
    ),
)
_views = [
    dict(type="LoadImages"),
    dict(type="SliceViews", max_slices=4, size=24, keep_aspect=True),
]
_pack = dict(type="PackVLMInputs")
_train = [*_views, dict(type="EncodeConversation", max_length=512), _pack]
_test = [*_views, dict(type="EncodeConversation", mode="generate"), _pack]
train_dataloader = dict(dataset=dict(pipeline=_train))
test_dataloader = dict(dataset=dict(pipeline=_test))
load_from = [
    dict(
        path="work_dirs/clip-tiny_contrastive_none_1xb192-1600i-pt_tiny-scenes",
        parts=["vision_encoder"],
    ),
    dict(
        path="work_dirs/text_none_llama-tiny_1xb64-600i-pt_tiny-scenes",
        parts=["language_model"],
    ),
]
