"""Tiny Monkey: four windows at twice the resolution, adapters for each.

Reproduces: Monkey in the small.
Command: tools/train.py configs/tiny/monkey-clip-tiny_resampler-q16_llama-tiny_1xb96-2k-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = ["./llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py"]

model = dict(
    vision_encoder=dict(
        _delete_=True,
        type="MonkeyVisionEncoder",
        rank=4,
        mlp_rank=8,
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
        type="ResamplerConnector",
        grid=4,
        heads=4,
        post_proj="matrix",
        select_layers=[-2],
    ),
    train_parts=dict(vision_encoder="lora"),
)
_load, _pack = [dict(type="LoadImages"), dict(type="GridWindows")], "PackVLMInputs"
_train = [*_load, dict(type="EncodeConversation", max_length=512), dict(type=_pack)]
_test = [*_load, dict(type="EncodeConversation", mode="generate"), dict(type=_pack)]
train_dataloader = dict(dataset=dict(pipeline=_train))
test_dataloader = dict(dataset=dict(pipeline=_test))
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
