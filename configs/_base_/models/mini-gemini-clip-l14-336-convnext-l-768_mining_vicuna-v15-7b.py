"""Mini-Gemini 7B: CLIP ViT-L/14 at 336 px mines ConvNeXt-L at 768 px."""

_base_ = [
    "../vision_encoders/clip-l14-336.py",
    "../language_models/vicuna-v15-7b.py",
]

model = dict(
    type="VisionLanguageModel",
    vision_encoder=dict(
        type="DualVisionEncoder",
        low=_base_.vision_encoder,
        high=dict(
            type="TimmConvNeXt",
            model_name="convnext_large_mlp.clip_laion2b_ft_soup_320",
            checkpoint_path="pretrained/convnext_large_mlp.clip_laion2b_ft_soup_320.bin",
        ),
        image_size=768,
    ),
    connector=dict(
        type="FusedConnector",
        fuser=dict(type="PatchInfoMiningFuser", select_layers=[-2]),
        projector=dict(type="MLPConnector", depth=2, act="gelu"),
    ),
    generation=dict(max_new_tokens=128, do_sample=False),
)
