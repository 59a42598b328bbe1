"""BLIP-2, stage 2, with Vicuna-7B: the Q-Former learns to speak to the language model.

Reproduces: the recipe of the paper for ViT-g and a decoder (80 K steps of 1520 pairs),
with the language model that InstructBLIP starts from.
Paper: Li et al., "BLIP-2: Bootstrapping Language-Image Pre-training with Frozen Image
Encoders and Large Language Models", ICML 2023, arXiv 2301.12597.
Command: tools/dist_train.sh configs/blip2/blip2-eva-g-224_qformer-q32_vicuna-7b_16xb95-80k-pt_blip2-129m.py 16
Hardware: sized for 16 GPUs of 40 GB (the authors: less than 3 days on 16 x A100).
Expected: a Q-Former for InstructBLIP. Ours: not measured.
"""

_base_ = [
    "../_base_/models/eva-vit-g_qformer-q32_vicuna-7b.py",
    "../_base_/datasets/captions.py",
    "../_base_/schedules/lavis.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/ddp.py",
]

model = dict(
    train_parts=dict(vision_encoder=False, connector=True, language_model=False)
)
train_dataloader = dict(
    batch_size=95,
    dataset=dict(
        name="blip2-129m",
        data_root="data/blip2",
        ann_file="captions.jsonl",
        pipeline=[
            dict(type="LoadImages"),
            dict(type="ResizeSquare", size=224),
            dict(type="EncodeConversation", max_length=66, overflow="truncate_text"),
            dict(type="PackVLMInputs"),
        ],
    ),
)
base_batch_size = 1520
train_cfg = dict(max_iters=80000)
optim_wrapper = dict(optimizer=dict(lr=1e-4, betas=(0.9, 0.98)))
param_scheduler = [
    dict(
        type="WarmupCosineLR",
        warmup_ratio=0.025,
        start_ratio=0.01,
        min_ratio=0.5,
        from_start=True,
    )
]
default_hooks = dict(checkpoint=dict(trainable_only=True))
load_from = dict(_delete_=True, path="pretrained/blip2_stage1.pth", parts=["connector"])
