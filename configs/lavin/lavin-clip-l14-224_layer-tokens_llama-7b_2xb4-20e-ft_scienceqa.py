"""LaVIN-7B on ScienceQA: adapters and connector learn, 20 epochs.

Reproduces: the official recipe (see the README).
Paper: Luo et al., "Cheap and Quick: Efficient Vision-Language Instruction Tuning for
Large Language Models", NeurIPS 2023, arXiv 2305.15023.
Command: tools/dist_train.sh configs/lavin/lavin-clip-l14-224_layer-tokens_llama-7b_2xb4-20e-ft_scienceqa.py 2
Hardware: sized for 2 GPUs of 40 GB.
Ours: not measured.
"""

_base_ = [
    "../_base_/models/flamingo-clip-l14-224_perceiver_llama-7b.py",
    "../_base_/datasets/llava_665k.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/ddp.py",
]

chat_template = "lavin"
model = dict(
    vision_encoder=dict(
        _delete_=True,
        type="LaVINVisionEncoder",
        vision_encoder=dict(
            type="HFVisionEncoder",
            name_or_path="openai/clip-vit-large-patch14",
            config=dict(
                model_type="clip_vision_model",
                hidden_size=1024,
                intermediate_size=4096,
                num_hidden_layers=24,
                num_attention_heads=16,
                image_size=224,
                patch_size=14,
                hidden_act="quick_gelu",
                projection_dim=768,
            ),
            torch_dtype="bfloat16",
        ),
        hidden=8,
        groups=2,
        temperature=10.0,
        route_by="token",
    ),
    connector=dict(_delete_=True, type="LayerTokensConnector", hidden=128, every=4),
    language_model=dict(
        adapters=[dict(type="LaVINAdapter", hidden=8, groups=2, temperature=10.0)]
    ),
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
