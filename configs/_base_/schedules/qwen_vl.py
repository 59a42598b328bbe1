"""Qwen-VL: AdamW, cosine; each stage sets length, batch and learning rate."""

train_cfg = dict(type="VLMTrainLoop", max_iters=1, loss_norm="token")
optim_wrapper = dict(
    type="VLMOptimWrapper",
    optimizer=dict(
        type="AdamW", lr=2e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.05
    ),
    constructor="PartOptimWrapperConstructor",
    paramwise_cfg=dict(parts=dict(), norm_and_bias_decay=False),
    accumulative_counts=1,
    clip_grad=dict(max_norm=1.0),
    dtype="bfloat16",
)
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.01)]
