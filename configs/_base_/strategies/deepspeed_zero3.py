"""Weights, gradients and optimizer state are spread over GPUs (DeepSpeed ZeRO 3)."""

strategy = dict(
    type="VLMDeepSpeedStrategy",
    zero_optimization=dict(stage=3, overlap_comm=True, contiguous_gradients=True),
)
