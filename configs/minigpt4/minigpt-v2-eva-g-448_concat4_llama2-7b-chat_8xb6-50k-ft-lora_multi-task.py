"""MiniGPT-v2 7B, fine-tuning: projection and LoRA learn from many tasks at 448 px.

Reproduces: the official fine-tuning (50 epochs of 1000 iterations). There is no
Q-Former: four neighbouring tokens become one, 256 per image.
Paper: Chen et al., "MiniGPT-v2: large language model as a unified interface for
vision-language multi-task learning", 2023, arXiv 2310.09478.
Command: tools/dist_train.sh configs/minigpt4/minigpt-v2-eva-g-448_concat4_llama2-7b-chat_8xb6-50k-ft-lora_multi-task.py 8
Hardware: sized for 8 GPUs of 40 GB.
Ours: not measured.
"""

_base_ = [
    "../_base_/models/eva-vit-g_qformer-q32_vicuna-7b.py",
    "../_base_/datasets/captions.py",
    "../_base_/schedules/lavis.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/ddp.py",
]

model = dict(
    connector=dict(_delete_=True, type="TokenConcatConnector", group=4),
    language_model=dict(
        name_or_path="meta-llama/Llama-2-7b-chat-hf",
        config=dict(max_position_embeddings=4096, rms_norm_eps=1e-5),
        lora=dict(r=64, alpha=16, dropout=0.05, target_modules=["q_proj", "v_proj"]),
    ),
    train_parts=dict(
        vision_encoder=False, connector=dict(only=["proj"]), language_model="lora"
    ),
)
tokenizer = dict(name_or_path="meta-llama/Llama-2-7b-chat-hf")
chat_template = "minigpt_v2"
train_dataloader = dict(
    batch_size=6,
    dataset=dict(
        name="multi-task",
        data_root="data/minigpt_v2",
        ann_file="multi_task.jsonl",
        pipeline=[
            dict(type="LoadImages"),
            dict(type="ResizeSquare", size=448),
            dict(type="EncodeConversation", max_length=1340, overflow="truncate_text"),
            dict(type="PackVLMInputs"),
        ],
    ),
)
base_batch_size = 48
train_cfg = dict(max_iters=50000)
optim_wrapper = dict(optimizer=dict(lr=1e-5))
param_scheduler = [
    dict(
        type="WarmupCosineLR",
        warmup_ratio=0.02,
        start_ratio=0.1,
        min_ratio=0.1,
        from_start=True,
    )
]
default_hooks = dict(checkpoint=dict(trainable_only=True))
load_from = dict(_delete_=True, path="pretrained/minigpt_v2.pth", parts=["connector"])
