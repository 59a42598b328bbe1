"""LLaVA-1.5 stage 2 with LoRA: 2e-4 for the adapters, 2e-5 for the connector."""

base_batch_size = 128
train_cfg = dict(type="VLMTrainLoop", max_epochs=1, loss_norm="token")
optim_wrapper = dict(
    type="VLMOptimWrapper",
    optimizer=dict(
        type="AdamW", lr=2e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0
    ),
    constructor="PartOptimWrapperConstructor",
    paramwise_cfg=dict(parts=dict(connector=dict(lr=2e-5)), norm_and_bias_decay=False),
    accumulative_counts=1,
    clip_grad=None,
    dtype="bfloat16",
)
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.03)]
