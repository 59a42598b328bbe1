"""Ferret 7B: CLIP ViT-L/14 at 336 px, a matrix, the visual sampler, Vicuna-7B v1.3.

A region of a question is written as coordinates of a 1000 x 1000 image with a token
behind them that the sampler fills.
"""

_base_ = [
    "../vision_encoders/clip-l14-336.py",
    "../language_models/vicuna-v13-7b.py",
]

codec = dict(type="FerretCodec")
chat_template = dict(
    type="vicuna_v1",
    system="A chat between a human and an AI that understands visuals. In images, "
    "[x, y] denotes points: top-left [0, 0], bottom-right [width-1, height-1]. "
    "Increasing x moves right; y moves down. Bounding box: [x1, y1, x2, y2]. "
    "Image size: 1000x1000. Follow instructions. ",
)
model = dict(
    type="VisionLanguageModel",
    vision_encoder=_base_.vision_encoder,
    connector=dict(type="LinearConnector", select_layers=[-2]),
    connectors=dict(
        region_encoder=dict(
            type="FerretSampler",
            num_points=512,
            num_sub_points=[128, 32],
            num_neighbours=[24, 24],
            pooler="max",
            coord_order="transposed",
            select_layers=[-2],
            random_init=True,
        )
    ),
    language_model=dict(new_tokens=dict(codec=codec, train=None)),
    generation=dict(max_new_tokens=1024, do_sample=False),
)
