"""Gradients and optimizer state are spread over GPUs, weights between steps not."""

strategy = dict(
    type="VLMFSDPStrategy", model_wrapper=dict(sharding_strategy="SHARD_GRAD_OP")
)
