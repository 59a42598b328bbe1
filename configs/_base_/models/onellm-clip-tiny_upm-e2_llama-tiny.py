"""A OneLLM of the tiny LLaVA's towers: images, depth and sounds, two experts."""

_base_ = "./llava-clip-tiny_mlp2x_llama-tiny.py"

model = dict(
    vision_encoder=dict(
        _delete_=True,
        type="UniversalEncoder",
        encoder={{_base_.model.vision_encoder}},
        tokenizers=dict(
            rgbd=dict(type="FramesTokenizer", num_frames=2),
            audio=dict(
                type="SpectrogramTokenizer",
                input_size=(32, 64),
                kernel_size=8,
                stride=8,
            ),
        ),
    ),
    connector=dict(
        _delete_=True,
        type="UniversalProjectionConnector",
        modalities=["image", "rgbd", "audio"],
        num_experts=2,
        num_layers=2,
        num_heads=4,
        num_tokens=16,
        multiple_of=16,
    ),
)
