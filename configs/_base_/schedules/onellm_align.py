"""OneLLM, alignment stage III: 1e-5 down to 5e-6 for a global batch of 5120.

The released scripts count micro-batches: 200,000 of them, 16 to a step, are 12,500
steps, the warm-up of 2000 is 125. The paper says batch 1080. Layer norms of the
projections decay as in the released code, which spares names that end in
``norm.weight``.
"""

base_batch_size = 5120
train_cfg = dict(type="VLMTrainLoop", max_iters=12_500, loss_norm="token")
optim_wrapper = dict(
    type="VLMOptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-5, betas=(0.9, 0.95), weight_decay=0.1),
    constructor="PartOptimWrapperConstructor",
    paramwise_cfg=dict(
        parts=dict(),
        norm_and_bias_decay=False,
        decay={"connector.proj_*.1.weight": True},
    ),
    accumulative_counts=16,
    clip_grad=dict(max_norm=2.0),
    dtype="bfloat16",
)
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.01, min_ratio=0.5)]
