"""Tiny Flamingo: resampler, gated cross-attention and language model learn together.

Reproduces: OpenFlamingo's layers in the small.
Command: tools/train.py configs/tiny/flamingo-clip-tiny_perceiver_llama-tiny_1xb96-2k-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = ["./llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py"]

model = dict(
    connector=dict(
        _delete_=True,
        type="PerceiverResamplerConnector",
        depth=2,
        heads=4,
        dim_head=32,
        num_latents=16,
        select_layers=[-1],
    ),
    language_model=dict(
        adapters=[
            dict(type="GatedCrossAttentionAdapter", every=2, heads=4, dim_head=32)
        ]
    ),
)
load_from = [
    dict(
        path="work_dirs/clip-tiny_contrastive_none_1xb192-1600i-pt_tiny-scenes",
        parts=["vision_encoder"],
    ),
    dict(
        path="work_dirs/text_none_llama-tiny_1xb64-600i-pt_tiny-scenes",
        parts=["language_model"],
    ),
]
