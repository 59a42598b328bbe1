"""LLaVA-UHD 13B: CLIP ViT-L/14 on slices of any aspect, 64 queries for each."""

_base_ = "./llava-clip-l14-336_mlp2x_vicuna-v15-13b.py"

model = dict(
    vision_encoder=dict(
        _delete_=True,
        type="AnyAspectVisionEncoder",
        vision_encoder=dict(
            type="HFVisionEncoder",
            name_or_path="openai/clip-vit-large-patch14-336",
            config=dict(
                model_type="clip_vision_model",
                hidden_size=1024,
                intermediate_size=4096,
                num_hidden_layers=24,
                num_attention_heads=16,
                image_size=336,
                patch_size=14,
                hidden_act="quick_gelu",
                projection_dim=768,
            ),
            torch_dtype="bfloat16",
        ),
    ),
    connector=dict(
        _delete_=True,
        type="SlicedConnector",
        whole_last=True,
        connector=dict(
            type="ResamplerConnector", grid=8, post_proj="matrix", select_layers=[-2]
        ),
    ),
)
