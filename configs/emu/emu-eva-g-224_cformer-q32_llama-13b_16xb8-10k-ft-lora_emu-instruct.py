"""Emu-I 13B: LoRA learns from instructions, everything else is frozen.

Reproduces: the trained set of the paper; ranks and rates are our choice.
Paper: Sun et al., "Emu: Generative Pretraining in Multimodality", ICLR 2024, arXiv
2307.05222.
Command: tools/dist_train.sh configs/emu/emu-eva-g-224_cformer-q32_llama-13b_16xb8-10k-ft-lora_emu-instruct.py 16
Hardware: sized for 16 GPUs of 80 GB (the authors: 16 hours on 16 x A100).
Ours: not measured.
"""

_base_ = [
    "../_base_/models/emu-eva-g-224_cformer-q32_llama-13b.py",
    "../_base_/datasets/captions.py",
    "../_base_/schedules/lavis.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero2.py",
]

model = dict(
    language_model=dict(
        lora=dict(r=16, alpha=16, dropout=0.05, target_modules=["q_proj", "v_proj"])
    ),
    train_parts=dict(
        vision_encoder=False, connector=False, language_model="lora", head=False
    ),
    heads=dict(head=dict(weight=0.0)),
)
chat_template = "emu"
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        name="emu-instruct",
        data_root="data/emu",
        ann_file="instruct.jsonl",
        pipeline=[
            dict(type="LoadImages"),
            dict(type="ResizeSquare", size=224),
            dict(type="EncodeConversation", max_length=1024, overflow="truncate_text"),
            dict(type="PackVLMInputs"),
        ],
    ),
)
base_batch_size = 128
train_cfg = dict(max_iters=10000)
optim_wrapper = dict(
    optimizer=dict(lr=1e-5, betas=(0.9, 0.98), eps=1e-6),
    clip_grad=dict(_delete_=True, max_norm=1.0),
)
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.05, min_ratio=0.0)]
default_hooks = dict(checkpoint=dict(trainable_only=True))
load_from = dict(
    _delete_=True,
    path="work_dirs/emu-eva-g-224_cformer-q32_llama-13b_128xb8-10k-pt_emu-mix",
)
