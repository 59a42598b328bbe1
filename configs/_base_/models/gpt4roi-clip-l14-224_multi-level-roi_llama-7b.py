"""GPT4RoI 7B: CLIP ViT-L/14 at 224 px, a matrix, RoI features of four layers.

A region of a question is one token, which the region module fills; the language model
is Vicuna of the first version.
"""

_base_ = ["../vision_encoders/clip-l14-224.py", "../language_models/llama-7b.py"]

chat_template = dict(
    type="llava_v0", image_prefix="<im_start>", image_suffix="<im_end>"
)
model = dict(
    type="VisionLanguageModel",
    vision_encoder=_base_.vision_encoder,
    connector=dict(type="LinearConnector", select_layers=[-2]),
    connectors=dict(
        region_encoder=dict(
            type="MultiLevelRoI", select_layers=[-11, -8, -5, -2], random_init=True
        )
    ),
    language_model=dict(
        name_or_path="lmsys/vicuna-7b-v1.1",
        new_tokens=dict(
            tokens=["<im_patch>", "<bbox>", "<point>", "<im_start>", "<im_end>"],
            train=None,
        ),
    ),
    generation=dict(max_new_tokens=512, do_sample=False),
)
tokenizer = dict(name_or_path="lmsys/vicuna-7b-v1.1")
