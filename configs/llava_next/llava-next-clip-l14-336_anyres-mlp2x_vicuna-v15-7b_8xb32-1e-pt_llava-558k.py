"""LLaVA-1.6 7B, stage 1: only the connector learns, from captions.

Reproduces: the official recipe of LLaVA-NeXT (2024-01); one view per image, which
here already ends with the newline.
Paper: Liu et al., "LLaVA-NeXT: Improved reasoning, OCR, and world knowledge", 2024.
Command: tools/dist_train.sh configs/llava_next/llava-next-clip-l14-336_anyres-mlp2x_vicuna-v15-7b_8xb32-1e-pt_llava-558k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: a connector for stage 2; no benchmark is scored here. Ours: not measured.
"""

_base_ = [
    "../_base_/models/llava-clip-l14-336_mlp2x_vicuna-v15-7b.py",
    "../_base_/datasets/llava_558k.py",
    "../_base_/schedules/llava_pretrain.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero2.py",
]

model = dict(
    connector=dict(
        _delete_=True,
        type="AnyResConnector",
        connector=dict(type="MLPConnector", depth=2, act="gelu", select_layers=[-2]),
        unpad=True,
    ),
    train_parts=dict(vision_encoder=False, connector=True, language_model=False),
)
optim_wrapper = dict(clip_grad=dict(_delete_=True, max_norm=1.0))
default_hooks = dict(checkpoint=dict(trainable_only=True))
