"""Gradients and optimizer state are spread over GPUs (DeepSpeed ZeRO 2)."""

strategy = dict(
    type="VLMDeepSpeedStrategy",
    zero_optimization=dict(
        stage=2,
        allgather_partitions=True,
        reduce_scatter=True,
        overlap_comm=True,
        contiguous_gradients=True,
    ),
)
