"""CogVLM-17B, instruction tuning at 490 px: tower (a tenth of the rate) and experts learn.

Reproduces: CogVLM's trainable set and format; the exact schedule is not published.
Paper: Wang et al., "CogVLM: Visual Expert for Pretrained Language Models", NeurIPS
2024, arXiv 2311.03079.
Command: tools/dist_train.sh configs/cogvlm/cogvlm-eva2-e14-490_glu_vicuna-v15-7b_8xb16-1e-ft_llava-665k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Ours: not measured.
"""

_base_ = [
    "../_base_/models/cogvlm-eva2-e14-224_glu_vicuna-v15-7b.py",
    "../_base_/datasets/llava_665k.py",
    "../_base_/schedules/llava_finetune.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero3.py",
]

chat_template = "cogvlm_chat"
model = dict(
    vision_encoder=dict(img_size=490),
    train_parts=dict(vision_encoder=True, connector=True, language_model="adapters"),
)
optim_wrapper = dict(
    optimizer=dict(lr=1e-5, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(parts=dict(vision_encoder=dict(lr=1e-6))),
    clip_grad=dict(_delete_=True, max_norm=0.1),
)
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.02, min_ratio=0.1)]
default_hooks = dict(checkpoint=dict(trainable_only=True))
# The tower's positions are resampled from 16 x 16 to 35 x 35 patches.
load_from = [
    dict(path="work_dirs/eva02_enormous_patch14_clip_224", parts=["vision_encoder"]),
    dict(
        path="work_dirs/cogvlm-eva2-e14-224_glu_vicuna-v15-7b_8xb32-1e-pt_llava-558k",
        parts=["connector", "language_model"],
    ),
]
