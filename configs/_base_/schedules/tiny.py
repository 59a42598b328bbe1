"""Tiny models on a CPU: AdamW with a high rate, warm-up, cosine; bfloat16, or float32
where the processor would emulate it."""

train_cfg = dict(type="VLMTrainLoop", max_iters=1000, loss_norm="token")
optim_wrapper = dict(
    type="VLMOptimWrapper",
    optimizer=dict(
        type="AdamW", lr=2e-3, betas=(0.9, 0.98), weight_decay=0.02, fused=True
    ),
    constructor="PartOptimWrapperConstructor",
    paramwise_cfg=dict(parts=dict(), norm_and_bias_decay=False),
    accumulative_counts=1,
    clip_grad=dict(max_norm=1.0),
    dtype="auto",
)
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.04, min_ratio=0.02)]
