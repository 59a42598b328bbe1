"""LLaVA-1.5 stage 2: one epoch, learning rate 2e-5 for a global batch of 128."""

base_batch_size = 128
train_cfg = dict(type="VLMTrainLoop", max_epochs=1, loss_norm="token")
optim_wrapper = dict(
    type="VLMOptimWrapper",
    optimizer=dict(
        type="AdamW", lr=2e-5, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0
    ),
    constructor="PartOptimWrapperConstructor",
    paramwise_cfg=dict(parts=dict(), norm_and_bias_decay=False),
    accumulative_counts=1,
    clip_grad=None,
    dtype="bfloat16",
)
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.03)]
