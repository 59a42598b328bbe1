"""mPLUG-Owl 7B, stage 1: tower and abstractor learn from captions.

Reproduces: the stage of the paper (language model frozen); the rates are the paper's,
not read from released scripts.
Paper: Ye et al., "mPLUG-Owl: Modularization Empowers Large Language Models with
Multimodality", 2023, arXiv 2304.14178.
Command: tools/dist_train.sh configs/mplug_owl/mplug-owl-clip-l14-224_abstractor-q64_llama-7b_32xb66-50k-pt_laion-coyo-cc-coco.py 32
Hardware: sized for 32 GPUs of 80 GB.
Expected: a tower and abstractor for stage 2. Ours: not measured.
"""

_base_ = [
    "../_base_/models/mplug-owl-clip-l14-224_abstractor_llama-7b.py",
    "../_base_/datasets/captions.py",
    "../_base_/schedules/lavis.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/ddp.py",
]

model = dict(
    vision_encoder=dict(torch_dtype="float32", gradient_checkpointing="all"),
    # The tower's last norm is not used, so nothing could train it.
    train_parts=dict(
        vision_encoder=dict(
            only=[
                "vision_model.embeddings",
                "vision_model.pre_layrnorm",
                "vision_model.encoder",
            ]
        ),
        connector=True,
        language_model=False,
    ),
)
train_dataloader = dict(
    batch_size=66,
    dataset=dict(
        name="laion-coyo-cc-coco",
        data_root="data/mplug_owl",
        ann_file="captions.jsonl",
        pipeline=[
            dict(type="LoadImages"),
            dict(type="ResizeSquare", size=224),
            dict(type="EncodeConversation", max_length=512, overflow="truncate_text"),
            dict(type="PackVLMInputs"),
        ],
    ),
)
base_batch_size = 2112
train_cfg = dict(max_iters=50000)
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1),
    clip_grad=dict(_delete_=True, max_norm=1.0),
)
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.04, min_ratio=0.0)]
default_hooks = dict(checkpoint=dict(trainable_only=True))
