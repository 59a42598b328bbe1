"""LAVIS's optimizer: AdamW with decay 0.05 on matrices, warm-up, cosine from step 0.

Rates, steps and batch are the systems' own.
"""

train_cfg = dict(type="VLMTrainLoop", max_iters=20000, loss_norm="token")
optim_wrapper = dict(
    type="VLMOptimWrapper",
    optimizer=dict(
        type="AdamW", lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05
    ),
    constructor="PartOptimWrapperConstructor",
    paramwise_cfg=dict(parts=dict(), norm_and_bias_decay=False),
    accumulative_counts=1,
    clip_grad=None,
    dtype="bfloat16",
)
param_scheduler = [
    dict(type="WarmupCosineLR", warmup_ratio=0.25, min_ratio=0.8, from_start=True)
]
