"""Emu 13B, pretraining: every part learns to predict text and visual embeddings.

Reproduces: the objective of the paper (cross entropy and regression, weight 1.0); data
and rates are the paper's in outline, not read from released scripts.
Paper: Sun et al., "Emu: Generative Pretraining in Multimodality", ICLR 2024, arXiv
2307.05222.
Command: tools/dist_train.sh configs/emu/emu-eva-g-224_cformer-q32_llama-13b_128xb8-10k-pt_emu-mix.py 128
Hardware: sized for 128 GPUs of 80 GB (the authors: 2 days on 128 x A100).
Ours: not measured.
"""

_base_ = [
    "../_base_/models/emu-eva-g-224_cformer-q32_llama-13b.py",
    "../_base_/datasets/captions.py",
    "../_base_/schedules/lavis.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero3.py",
]

model = dict(
    connector=dict(random_init=True),
    heads=dict(head=dict(random_init=True)),
    train_parts=dict(
        # The tower's last norm is not used, so nothing could train it.
        vision_encoder=dict(only=["vision_model.embeddings", "vision_model.encoder"]),
        connector=True,
        language_model=True,
        head=True,
    ),
)
chat_template = "emu_plain"
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        name="emu-mix",
        data_root="data/emu",
        ann_file="mixture.jsonl",
        pipeline=[
            dict(type="LoadImages"),
            dict(type="ResizeSquare", size=224),
            dict(type="EncodeConversation", max_length=1024, overflow="truncate_text"),
            dict(type="PackVLMInputs"),
        ],
    ),
)
base_batch_size = 1024
train_cfg = dict(max_iters=10000)
optim_wrapper = dict(
    optimizer=dict(lr=3e-5, betas=(0.9, 0.98), eps=1e-6),
    paramwise_cfg=dict(
        parts=dict(vision_encoder=dict(lr=4e-5), connector=dict(lr=1e-4))
    ),
    clip_grad=dict(_delete_=True, max_norm=5.0),
)
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.2, min_ratio=0.0)]
