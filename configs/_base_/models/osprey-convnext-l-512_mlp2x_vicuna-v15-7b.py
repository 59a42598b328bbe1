"""Osprey 7B: ConvNeXt-L of CLIP at 512 px, two linear layers, masks, Vicuna-7B v1.5.

A region of a question is one token, which stands for two positions: what lies under the
mask in four stages of the ConvNeXt, and the mask's place. Tokens of the image are the
third stage's 32 x 32 cells.
"""

_base_ = "../language_models/vicuna-v15-7b.py"

chat_template = "vicuna_v1"
model = dict(
    type="VisionLanguageModel",
    vision_encoder=dict(
        type="ConvNeXtVisionEncoder",
        encoder=dict(
            type="TimmConvNeXt",
            model_name="convnext_large_mlp.clip_laion2b_ft_320",
            checkpoint_path="pretrained/convnext_large_mlp.clip_laion2b_ft_320.bin",
        ),
        image_size=512,
    ),
    connector=dict(type="MLPConnector", depth=2, act="gelu", select_layers=[-1]),
    connectors=dict(
        region_encoder=dict(type="MaskExtractor", select_layers=[-1], random_init=True)
    ),
    language_model=dict(new_tokens=dict(tokens=["<mask>", "<pos>"], train=None)),
    generation=dict(max_new_tokens=512, do_sample=False),
)
processor = dict(
    views=dict(type="ResizeSquare", resample="bicubic"),
    codec=dict(type="RegionTokenCodec", token="<mask>"),
    max_length=2048,
    overflow="truncate_text",
    load_images=dict(any_suffix=True),
)
