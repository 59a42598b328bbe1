"""LLaVA-1.6 7B with five layers joined in front of the MLP, stage 1.

Reproduces: no published run; LLaVA-NeXT's recipe with another connector.
Paper: Liu et al., "LLaVA-NeXT: Improved reasoning, OCR, and world knowledge", 2024.
Command: tools/dist_train.sh configs/llava_next/llava-next-clip-l14-336_anyres-layer-concat_vicuna-v15-7b_8xb32-1e-pt_llava-558k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: not measured.
"""

_base_ = [
    "./llava-next-clip-l14-336_anyres-mlp2x_vicuna-v15-7b_8xb32-1e-pt_llava-558k.py"
]

model = dict(
    connector=dict(
        connector=dict(
            _delete_=True,
            type="FusedConnector",
            fuser=dict(type="LayerConcatFuser", select_layers=[3, 8, 13, 18, 23]),
            projector=dict(type="MLPConnector", depth=2, act="gelu"),
        )
    )
)
