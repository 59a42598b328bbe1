"""LLaVA-UHD 13B: CLIP ViT-L/14 on slices of any aspect, 64 queries for each."""

_base_ = "./llava-clip-l14-336_mlp2x_vicuna-v15-13b.py"

model = dict(
    vision_encoder=dict(
        _delete_=True,
        type="AnyAspectVisionEncoder",
        vision_encoder=_base_.vision_encoder,
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
