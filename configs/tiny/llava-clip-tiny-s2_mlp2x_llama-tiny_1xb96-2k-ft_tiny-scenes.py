"""Tiny LLaVA with S2: the tower sees the image at 48 and at 96 pixels.

Reproduces: S2's recipe in the small; TinyScenes' 48 pixels are enlarged to 96, whose
quarters show the tower every object at twice its size.
Command: tools/train.py configs/tiny/llava-clip-tiny-s2_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = "llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py"

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
        path="work_dirs/clip-tiny_contrastive_none_1xb192-1600i-pt_tiny-scenes",
        parts=["vision_encoder"],
        rename=dict(vision_encoder="vision_encoder.encoder"),
    ),
    dict(
        path="work_dirs/text_none_llama-tiny_1xb64-600i-pt_tiny-scenes",
        parts=["language_model"],
    ),
]
