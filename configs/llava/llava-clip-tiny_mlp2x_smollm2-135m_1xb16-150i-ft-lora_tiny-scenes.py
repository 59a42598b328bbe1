"""LLaVA with SmolLM2-135M, stage 2: connector and LoRA learn from instructions.

Reproduces: LLaVA's LoRA recipe with a small language model that was really pretrained.
Command: tools/train.py configs/llava/llava-clip-tiny_mlp2x_smollm2-135m_1xb16-150i-ft-lora_tiny-scenes.py
Hardware: 2 CPU cores.
Expected: loss 0.30 after 11 minutes of CPU time; 60.8 % of
    1350 test questions right, blind 24.1 %.
"""

_base_ = [
    "../_base_/models/llava-clip-tiny_mlp2x_smollm2-135m.py",
    "../_base_/datasets/tiny_scenes.py",
    "../_base_/schedules/tiny.py",
    "../_base_/default_runtime.py",
]

model = dict(
    language_model=dict(lora=dict(r=32, alpha=64, dropout=0.0)),
    train_parts=dict(vision_encoder=False, connector=True, language_model="lora"),
)
train_dataloader = dict(batch_size=16)
default_hooks = dict(checkpoint=dict(trainable_only=True))
train_cfg = dict(max_iters=150)
optim_wrapper = dict(
    optimizer=dict(lr=1e-3),
    paramwise_cfg=dict(parts=dict(connector=dict(lr=1e-3))),
)
base_batch_size = 16
load_from = [
    dict(
        path="work_dirs/clip-tiny_contrastive_none_1xb192-1600i-pt_tiny-scenes",
        parts=["vision_encoder"],
    ),
    dict(
        path="work_dirs/llava-clip-tiny_mlp2x_smollm2-135m_1xb16-100i-pt_tiny-scenes",
        parts=["connector"],
    ),
]
