"""OneLLM, instruction tuning: one epoch, 2e-5 down to 0, global batch of 128.

As the released script, 4 samples x 4 accumulated x 8 GPUs; the paper says 512.
"""

base_batch_size = 128
train_cfg = dict(type="VLMTrainLoop", max_epochs=1, loss_norm="token")
optim_wrapper = dict(
    type="VLMOptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-5, betas=(0.9, 0.95), weight_decay=0.0),
    constructor="PartOptimWrapperConstructor",
    paramwise_cfg=dict(parts=dict(), norm_and_bias_decay=False),
    accumulative_counts=4,
    clip_grad=dict(max_norm=2.0),
    dtype="bfloat16",
)
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.05)]
