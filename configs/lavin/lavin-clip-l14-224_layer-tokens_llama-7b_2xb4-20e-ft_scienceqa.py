"""LaVIN-7B on ScienceQA: adapters and connector learn, 20 epochs.

Reproduces: the official recipe (see the README).
Paper: Luo et al., "Cheap and Quick: Efficient Vision-Language Instruction Tuning for
Large Language Models", NeurIPS 2023, arXiv 2305.15023.
Command: tools/dist_train.sh configs/lavin/lavin-clip-l14-224_layer-tokens_llama-7b_2xb4-20e-ft_scienceqa.py 2
Hardware: sized for 2 GPUs of 40 GB.
Ours: not measured.
"""

_base_ = [
    "../_base_/models/lavin-clip-l14-224_layer-tokens_llama-7b.py",
    "../_base_/datasets/llava_665k.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/ddp.py",
]

chat_template = "lavin"
model = dict(
    train_parts=dict(
        vision_encoder="adapters", connector=True, language_model="adapters"
    ),
)
train_dataloader = dict(
    batch_size=4,
    sampler=dict(_delete_=True, type="RandomBatchSampler"),
    dataset=dict(
        name="scienceqa",
        data_root="data/scienceqa",
        ann_file="train_qcm_ale.json",
        image_prefix="train",
        pipeline=[
            dict(type="LoadImages"),
            dict(type="CenterCropSquare"),
            dict(type="EncodeConversation", max_length=512, overflow="truncate_text"),
            dict(type="PackVLMInputs"),
        ],
    ),
)
base_batch_size = 32
train_cfg = dict(type="VLMTrainLoop", max_epochs=20, loss_norm="token")
optim_wrapper = dict(
    type="VLMOptimWrapper",
    # 9e-3 for a batch of 256, scaled to 32.
    optimizer=dict(type="AdamW", lr=1.125e-3, betas=(0.9, 0.95), weight_decay=0.02),
    constructor="PartOptimWrapperConstructor",
    paramwise_cfg=dict(parts=dict(), norm_and_bias_decay=False),
    accumulative_counts=4,
    dtype="bfloat16",
)
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.1)]  # 2 of 20 epochs
