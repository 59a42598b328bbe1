"""InstructBLIP 7B: the Q-Former learns to look for what the instruction asks.

Reproduces: the recipe of the paper (60 K steps, warm-up of 1000 from 1e-8, cosine to 0).
Paper: Dai et al., "InstructBLIP: Towards General-purpose Vision-Language Models with
Instruction Tuning", NeurIPS 2023, arXiv 2305.06500.
Command: tools/dist_train.sh configs/instructblip/instructblip-eva-g-224_qformer-q32_vicuna-7b_16xb8-60k-ft_instructblip-26.py 16
Hardware: sized for 16 GPUs of 40 GB (the authors: 1.5 days on 16 x A100).
Published by the authors: GQA 49.2, TextVQA 50.1, ScienceQA 60.5, VizWiz 34.5,
NoCaps 123.1, Flickr30K 82.4. Ours: not measured.
"""

_base_ = [
    "../_base_/models/eva-vit-g_qformer-q32_vicuna-7b.py",
    "../_base_/datasets/captions.py",
    "../_base_/schedules/lavis.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/ddp.py",
]

model = dict(
    connector=dict(instruction_aware=True, vocab_size=30523),
    train_parts=dict(vision_encoder=False, connector=True, language_model=False),
)
chat_template = "instructblip"
bert = dict(
    type="HFTokenizer",
    name_or_path="bert-base-uncased",
    additional_special_tokens=["[DEC]"],
)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        name="instructblip-26",
        data_root="data/instructblip",
        ann_file="mixture.jsonl",
        pipeline=[
            dict(type="LoadImages"),
            dict(type="ResizeSquare", size=224),
            dict(type="TokenizeInstructions", tokenizer=bert, max_length=128),
            dict(type="EncodeConversation", max_length=416, overflow="truncate_text"),
            dict(type="PackVLMInputs"),
        ],
    ),
)
base_batch_size = 128
train_cfg = dict(max_iters=60000)
optim_wrapper = dict(optimizer=dict(lr=1e-5))
param_scheduler = [
    dict(
        type="WarmupCosineLR",
        warmup_ratio=1 / 60,
        start_ratio=1e-3,
        min_ratio=0.0,
        from_start=True,
    )
]
default_hooks = dict(checkpoint=dict(trainable_only=True))
load_from = dict(_delete_=True, path="pretrained/blip2_vicuna.pth", parts=["connector"])
