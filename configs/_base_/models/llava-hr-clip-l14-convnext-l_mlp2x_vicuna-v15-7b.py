"""LLaVA-HR 7B: ConvNeXt-L at 1024 px adapts CLIP ViT-L/14 at 448 px."""

_base_ = [
    "../vision_encoders/clip-l14-336.py",
    "../language_models/vicuna-v15-7b.py",
]

model = dict(
    type="VisionLanguageModel",
    vision_encoder=dict(
        type="MixtureOfResolutionVisionEncoder",
        low=_base_.vision_encoder,
        high=dict(
            type="TimmConvNeXt",
            model_name="convnext_large_mlp.clip_laion2b_ft_320",
            checkpoint_path="pretrained/convnext_large_mlp.clip_laion2b_ft_320.bin",
        ),
        image_size=1024,
    ),
    connector=dict(type="MLPConnector", depth=2, act="gelu", select_layers=[-1]),
    generation=dict(max_new_tokens=128, do_sample=False),
)
