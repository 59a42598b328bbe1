"""What every run shares: hooks, logging, environment."""

default_scope = "mmvlm"
default_hooks = dict(
    logger=dict(type="ProgressHook", interval=10),
    checkpoint=dict(type="VLMCheckpointHook", interval=500, max_keep=2),
    replies=dict(type="SampleRepliesHook", interval=500),
)
custom_hooks = []
visualizer = dict(
    type="Visualizer",
    vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")],
)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
log_level = "INFO"
sample_prompts = []
load_from = None
resume = False
work_dir = None
randomness = dict(seed=42)
