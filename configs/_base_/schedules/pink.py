"""PINK: AdamW, cosine; adapters learn fast."""

train_cfg = dict(type="VLMTrainLoop", max_epochs=6, loss_norm="token")
optim_wrapper = dict(
    type="VLMOptimWrapper",
    optimizer=dict(
        type="AdamW", lr=5e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.02
    ),
    constructor="PartOptimWrapperConstructor",
    paramwise_cfg=dict(parts=dict(), norm_and_bias_decay=False),
    accumulative_counts=1,
    clip_grad=dict(max_norm=1.0),
    dtype="bfloat16",
)
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.05)]
