"""Begin with the tiny LLaVA that `python tools/demo.py` has tuned on questions."""

_base_ = "./default_runtime.py"

load_from = [
    dict(
        path="work_dirs/clip-tiny_contrastive_none_1xb192-1600i-pt_tiny-scenes",
        parts=["vision_encoder"],
    ),
    dict(
        path="work_dirs/llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes",
        parts=["connector", "language_model"],
    ),
]
