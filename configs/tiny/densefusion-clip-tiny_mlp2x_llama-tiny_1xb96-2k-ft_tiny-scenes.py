"""Tiny DenseFusion, stage 3: instructions; the tuned tower is frozen again.

Reproduces: DenseFusion's recipe in the small.
Command: tools/train.py configs/tiny/densefusion-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = "llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py"

load_from = [
    dict(
        path="work_dirs/densefusion-clip-tiny_mlp2x_llama-tiny_1xb64-600i-ft_tiny-scenes-dense",
        parts=["vision_encoder", "connector", "language_model"],
    ),
]
