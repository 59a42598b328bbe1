"""OneLLM, later alignment stages: 1e-5 down to 5e-6 for a global batch of 1080.

The released script has 40 samples x 16 accumulated x 8 GPUs = 5120; the paper says
1080. Warm-up is 2000 micro-batches.
"""

base_batch_size = 1080
train_cfg = dict(type="VLMTrainLoop", max_iters=100_000)
optim_wrapper = dict(
    type="VLMOptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-5, betas=(0.9, 0.95), weight_decay=0.1),
    constructor="PartOptimWrapperConstructor",
    paramwise_cfg=dict(parts=dict(), norm_and_bias_decay=False),
    accumulative_counts=3,
    clip_grad=dict(max_norm=2.0),
    dtype="bfloat16",
)
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.0067, min_ratio=0.5)]
