"""Ablation: S2, the tower sees the image whole and in quarters at its full size.

Reproduces: S2 in the small, arXiv 2403.13043.
Command: tools/train.py configs/ablations/tiny_scenes/llava-clip-tiny-l6-s2_mlp2x_llama-tiny_1xb96-800i-ft_tiny-scenes-fine.py
Hardware: sized for 2 CPU cores.
Expected: 83.3 % of coarse and 54.8 % of fine questions, three seeds.
"""

_base_ = ["llava-clip-tiny-l6_mlp2x_llama-tiny_1xb96-800i-ft_tiny-scenes-fine.py"]

model = dict(
    vision_encoder=dict(
        _delete_=True,
        type="S2VisionEncoder",
        encoder={{_base_.model.vision_encoder}},
        scales=(48, 96),
    )
)
load_from = [
    dict(
        path="work_dirs/clip-tiny-l6_contrastive_none_1xb192-1000i-pt_tiny-scenes-fine",
        parts=["vision_encoder"],
        rename=dict(vision_encoder="vision_encoder.encoder"),
    ),
    dict(
        path="work_dirs/text_none_llama-tiny_1xb48-500i-pt_tiny-scenes-fine",
        parts=["language_model"],
    ),
]
