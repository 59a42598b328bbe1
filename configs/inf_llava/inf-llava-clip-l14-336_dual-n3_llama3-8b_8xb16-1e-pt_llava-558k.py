"""INF-LLaVA, stage 1: projector and dual-perspective enhancement learn from captions.

Reproduces: the official recipe of INF-LLaVA.
Paper: Ma et al., "INF-LLaVA: Dual-perspective Perception for High-Resolution
Multimodal Large Language Model", 2024, arXiv 2407.16198.
Command: tools/dist_train.sh configs/inf_llava/inf-llava-clip-l14-336_dual-n3_llama3-8b_8xb16-1e-pt_llava-558k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: a connector for stage 2; no benchmark is scored here. Ours: not measured.
"""

_base_ = [
    "../_base_/models/llava-clip-l14-336_mlp2x_llama3-8b.py",
    "../_base_/datasets/llava_558k.py",
    "../_base_/schedules/llava_pretrain.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero2.py",
]

model = dict(
    connector=dict(
        _delete_=True,
        type="FusedConnector",
        # The pipeline makes the views that this asks for.
        fuser=dict(type="DualPerspectiveFuser", grid=3, select_layers=[-2]),
        projector=dict(type="MLPConnector", depth=2, act="gelu"),
    ),
    train_parts=dict(vision_encoder=False, connector=True, language_model=False),
)
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        pipeline=[
            dict(type="LoadImages"),
            dict(type="DualPerspectiveViews"),
            dict(type="EncodeConversation", max_length=2048, overflow="truncate_text"),
            dict(type="PackVLMInputs"),
        ]
    ),
)
optim_wrapper = dict(accumulative_counts=2)
default_hooks = dict(checkpoint=dict(trainable_only=True))
