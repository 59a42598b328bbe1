"""DeepSpeed-VisualChat 7B: MMCA in LLaMA-2; projection and token embeddings learn.

Reproduces: the official hyperparameters with its ``baseline`` projection.
Paper: Yao et al., "DeepSpeed-VisualChat: Multi-Round Multi-Image Interleave Chat via
Multi-Modal Causal Attention", 2023, arXiv 2309.14327.
Command: tools/dist_train.sh configs/deepspeed_visualchat/deepspeed-visualchat-clip-l14-224_linear-norm_llama2-7b_8xb16-6e-ft_llava-150k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Ours: not measured.
"""

_base_ = [
    "../_base_/models/flamingo-clip-l14-224_perceiver_llama-7b.py",
    "../_base_/datasets/llava_665k.py",
    "../_base_/schedules/llava_pretrain.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero3.py",
]

chat_template = "ds_visualchat"
llama = "meta-llama/Llama-2-7b-hf"
tokenizer = dict(name_or_path=llama)
model = dict(
    connector=dict(_delete_=True, type="LinearNormConnector"),
    language_model=dict(
        name_or_path=llama,
        config=dict(max_position_embeddings=4096, rms_norm_eps=1e-5),
        adapters=[dict(type="MMCAAdapter")],
    ),
    train_parts=dict(
        vision_encoder=False,
        connector=True,
        language_model=dict(only=["embed_tokens"]),
    ),
)
train_dataloader = dict(
    dataset=dict(
        name="llava-150k",
        ann_file="llava_instruct_150k.json",
        pipeline=[
            dict(type="LoadImages"),
            dict(type="CenterCropSquare"),
            dict(type="EncodeConversation", max_length=4096, overflow="truncate_text"),
            dict(type="PackVLMInputs"),
        ],
    )
)
base_batch_size = 128
train_cfg = dict(max_epochs=6)
optim_wrapper = dict(
    optimizer=dict(betas=(0.9, 0.95)),
    clip_grad=dict(_delete_=True, max_norm=1.0),
)
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.1)]
