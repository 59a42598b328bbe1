"""LLaVA-1.6 7B, stage 2: every part learns, the tower slowly, from tiles.

Reproduces: the recipe of LLaVA-NeXT (2024-01) on its public data.
Paper: Liu et al., "LLaVA-NeXT: Improved reasoning, OCR, and world knowledge", 2024.
Command: tools/dist_train.sh configs/llava_next/llava-next-clip-l14-336_anyres-mlp2x_vicuna-v15-7b_32xb4-1e-ft_llava-next-779k.py 32
Hardware: sized for 32 GPUs of 80 GB.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/llava-clip-l14-336_mlp2x_vicuna-v15-7b.py",
    "../_base_/datasets/llava_next_779k.py",
    "../_base_/schedules/llava_finetune.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero3.py",
]

model = dict(
    connector=dict(
        _delete_=True,
        type="AnyResConnector",
        connector=dict(type="MLPConnector", depth=2, act="gelu", select_layers=[-2]),
        unpad=True,
    ),
    train_parts=dict(vision_encoder=True, connector=True, language_model=True),
)
optim_wrapper = dict(
    paramwise_cfg=dict(parts=dict(vision_encoder=dict(lr=2e-6))),
    clip_grad=dict(_delete_=True, max_norm=1.0),
)
load_from = dict(
    _delete_=True,
    path="work_dirs/llava-next-clip-l14-336_anyres-mlp2x_vicuna-v15-7b_8xb32-1e-pt_llava-558k",
    parts=["connector"],
)
