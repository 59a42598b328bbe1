"""LISA: 3e-4, 100 steps of warm-up, then linear decay to 0 over 5000 steps."""

base_batch_size = 160
train_cfg = dict(type="VLMTrainLoop", max_iters=5000, loss_norm="token")
optim_wrapper = dict(
    type="VLMOptimWrapper",
    optimizer=dict(type="AdamW", lr=3e-4, betas=(0.9, 0.95), weight_decay=0.0),
    constructor="PartOptimWrapperConstructor",
    paramwise_cfg=dict(parts=dict(), norm_and_bias_decay=False),
    accumulative_counts=10,
    clip_grad=dict(max_norm=1.0),
    dtype="bfloat16",
)
param_scheduler = [dict(type="WarmupLinearLR", warmup_ratio=0.02)]
