"""LLaVA with SmolLM2-135M, stage 1: the connector learns from descriptions.

Reproduces: LLaVA's recipe with a small language model that was really pretrained.
Command: tools/train.py configs/llava/llava-clip-tiny_mlp2x_smollm2-135m_1xb16-100i-pt_tiny-scenes.py
Hardware: 2 CPU cores.
Expected: loss 0.84 after 6 minutes of CPU time.
"""

_base_ = [
    "../_base_/models/llava-clip-tiny_mlp2x_smollm2-135m.py",
    "../_base_/datasets/tiny_scenes.py",
    "../_base_/schedules/tiny.py",
    "../_base_/default_runtime.py",
]

model = dict(
    train_parts=dict(vision_encoder=False, connector=True, language_model=False)
)
train_dataloader = dict(batch_size=16, dataset=dict(ann_file="pretrain.json"))
default_hooks = dict(checkpoint=dict(trainable_only=True))
train_cfg = dict(max_iters=100)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
base_batch_size = 16
load_from = [
    dict(
        path="work_dirs/clip-tiny_contrastive_none_1xb192-1600i-pt_tiny-scenes",
        parts=["vision_encoder"],
    ),
]
