"""Kosmos-2: everything learns from captions whose phrases bear location tokens.

Reproduces: train.sh of microsoft/unilm's kosmos-2, on the released part of GRIT alone.
Paper: Peng et al., "Kosmos-2: Grounding Multimodal Large Language Models to the
World", 2023, arXiv 2306.14824.
Command: tools/dist_train.sh configs/kosmos2/kosmos2-clip-l14-224_latent-q64_magneto-1b3_32xb64-60k-pt_grit-20m.py 32
Hardware: sized for 32 GPUs of 32 GB.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/kosmos2-clip-l14-224_latent-q64_magneto-1b3.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/ddp.py",
]

train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="BalancedBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="Kosmos2GRITDataset",
        name="grit",
        data_root="data/grit",
        ann_file="grit.jsonl",
        image_prefix="images",
        bad_samples=dict(policy="skip", max_fraction=0.01),
    ),
)
base_batch_size = 2048
train_cfg = dict(type="VLMTrainLoop", max_iters=60000, loss_norm="token")
optim_wrapper = dict(
    type="VLMOptimWrapper",
    optimizer=dict(
        type="AdamW", lr=2e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01
    ),
    constructor="PartOptimWrapperConstructor",
    paramwise_cfg=dict(parts=dict(), norm_and_bias_decay=True),
    accumulative_counts=1,
    clip_grad=dict(max_norm=2.0),
    dtype="bfloat16",
)
param_scheduler = [dict(type="WarmupLinearLR", warmup_ratio=0.00625)]
