"""mPLUG-Owl 7B, stage 2: LoRA in the language model learns from instructions.

Reproduces: the released script (3 epochs of 361,481 samples, 256 per step).
Paper: Ye et al., "mPLUG-Owl: Modularization Empowers Large Language Models with
Multimodality", 2023, arXiv 2304.14178.
Command: tools/dist_train.sh configs/mplug_owl/mplug-owl-clip-l14-224_abstractor-q64_llama-7b_8xb4-3e-ft-lora_instruct-361k.py 8
Hardware: sized for 8 GPUs of 40 GB.
Ours: not measured.
"""

_base_ = [
    "../_base_/models/mplug-owl-clip-l14-224_abstractor_llama-7b.py",
    "../_base_/datasets/captions.py",
    "../_base_/schedules/lavis.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/ddp.py",
]

model = dict(
    language_model=dict(
        lora=dict(r=8, alpha=32, dropout=0.05, target_modules=["q_proj", "v_proj"])
    ),
    train_parts=dict(vision_encoder=False, connector=False, language_model="lora"),
)
chat_template = "mplug_owl"
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        name="instruct-361k",
        data_root="data/mplug_owl",
        ann_file="instruct.jsonl",
        pipeline=[
            dict(type="LoadImages"),
            dict(type="ResizeSquare", size=224),
            dict(type="EncodeConversation", max_length=2048, overflow="truncate_text"),
            dict(type="PackVLMInputs"),
        ],
    ),
)
base_batch_size = 256
train_cfg = dict(_delete_=True, type="VLMTrainLoop", max_epochs=3, loss_norm="token")
optim_wrapper = dict(
    optimizer=dict(lr=2e-5, weight_decay=1e-4),
    accumulative_counts=8,
    clip_grad=dict(_delete_=True, max_norm=1.0),
)
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=50 / 4236, min_ratio=0.05)]
default_hooks = dict(checkpoint=dict(trainable_only=True))
load_from = dict(
    _delete_=True,
    path="work_dirs/mplug-owl-clip-l14-224_abstractor-q64_llama-7b_32xb66-50k-pt_laion-coyo-cc-coco",
    parts=["vision_encoder", "connector"],
)
