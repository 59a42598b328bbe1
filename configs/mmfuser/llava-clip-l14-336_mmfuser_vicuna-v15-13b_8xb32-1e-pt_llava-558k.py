"""MMFuser on LLaVA-1.5 13B, stage 1: fuser and projector learn from captions.

Reproduces: the official recipe, which gives the fuser a rate of its own.
Paper: Cao et al., "MMFuser: Multimodal Multi-Layer Feature Fuser for Fine-Grained
Vision-Language Understanding", 2024, arXiv 2410.11829.
Command: tools/dist_train.sh configs/mmfuser/llava-clip-l14-336_mmfuser_vicuna-v15-13b_8xb32-1e-pt_llava-558k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: a connector for stage 2; no benchmark is scored here. Ours: not measured.
"""

_base_ = [
    "../_base_/models/llava-clip-l14-336_mlp2x_vicuna-v15-13b.py",
    "../_base_/datasets/llava_558k.py",
    "../_base_/schedules/llava_pretrain.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero2.py",
]

model = dict(
    connector=dict(
        _delete_=True,
        type="FusedConnector",
        fuser=dict(type="MMFuser", select_layers=[3, 8, 13, 18, 23]),
        projector=dict(type="MLPConnector", depth=2, act="gelu"),
    ),
    train_parts=dict(vision_encoder=False, connector=True, language_model=False),
)
# The fuser learns more slowly than the projector behind it.
optim_wrapper = dict(paramwise_cfg=dict(parts={"connector.fuser": dict(lr=1e-4)}))
default_hooks = dict(checkpoint=dict(trainable_only=True))
