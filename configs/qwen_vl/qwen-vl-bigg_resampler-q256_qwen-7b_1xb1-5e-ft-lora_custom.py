"""Qwen-VL-Chat, LoRA on your own data: adapters of rank 64 in the language model.

Reproduces: the official finetune_lora_single_gpu.sh.
Paper: Bai et al., "Qwen-VL: A Versatile Vision-Language Model for Understanding,
Localization, Text Reading, and Beyond", 2023, arXiv 2308.12966.
Command: tools/dist_train.sh configs/qwen_vl/qwen-vl-bigg_resampler-q256_qwen-7b_1xb1-5e-ft-lora_custom.py 1
Hardware: sized for 1 GPUs of 80 GB.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/qwen-vl-bigg_resampler-q256_qwen-7b.py",
    "../_base_/datasets/qwen_vl.py",
    "../_base_/schedules/qwen_vl.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/ddp.py",
]

model = dict(
    language_model=dict(
        lora=dict(
            r=64,
            alpha=16,
            dropout=0.05,
            target_modules=[
                # c_attn, attn.c_proj, w1, w2 of the official layers
                *("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "gate_proj"),
            ],
        )
    ),
    train_parts=dict(vision_encoder=False, connector=False, language_model="lora"),
)
base_batch_size = 8
train_cfg = dict(_delete_=True, type="VLMTrainLoop", max_epochs=5, loss_norm="token")
optim_wrapper = dict(
    optimizer=dict(lr=1e-5, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1),
    accumulative_counts=8,
)
default_hooks = dict(checkpoint=dict(trainable_only=True))
load_from = dict(_delete_=True, path="checkpoints/qwen-vl-chat.pth")
