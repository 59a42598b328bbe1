"""Shikra-7B: CLIP ViT-L/14 at 224 px, one linear layer, Vicuna-7B v1.1.

Images stand between ``<im_start>`` and ``<im_end>`` wherever the question shows them.
Only the slow tokenizer with its legacy spaces cuts numerals digit by digit.
"""

_base_ = [
    "../vision_encoders/clip-l14-224.py",
    "../language_models/llama-7b.py",
]

tokenizer = dict(name_or_path="lmsys/vicuna-7b-v1.1", use_fast=False, legacy=True)
chat_template = dict(
    type="vicuna_v1", image_prefix="<im_start>", image_suffix="<im_end>"
)
model = dict(
    type="VisionLanguageModel",
    vision_encoder=_base_.vision_encoder,
    connector=dict(type="LinearConnector", select_layers=[-2]),
    language_model=dict(
        name_or_path="lmsys/vicuna-7b-v1.1",
        new_tokens=dict(tokens=["<im_patch>", "<im_start>", "<im_end>"], train="all"),
    ),
    train_parts=dict(vision_encoder=False, connector=True, language_model=True),
    generation=dict(max_new_tokens=1024, do_sample=False),
)
processor = dict(
    views=dict(type="PadToSquare", mean=(1.0, 1.0, 1.0)),
    codec=dict(type="ShikraCodec"),
    max_length=2048,
    overflow="truncate_text",
    load_images=dict(any_suffix=True),
)
