"""Mini-Gemini 7B, stage 1: mining and projector learn from captions.

Reproduces: the official recipe (1e-3, 16 samples per GPU, 256 per step).
Paper: Li et al., "Mini-Gemini: Mining the Potential of Multi-modality Vision Language
Models", 2024, arXiv 2403.18814.
Command: tools/dist_train.sh configs/mini_gemini/mini-gemini-clip-l14-336-convnext-l-768_mining_vicuna-v15-7b_8xb16-1e-pt_mgm-pretrain.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: a connector for stage 2; no benchmark is scored here. Ours: not measured.
"""

_base_ = [
    "../_base_/models/mini-gemini-clip-l14-336-convnext-l-768_mining_vicuna-v15-7b.py",
    "../_base_/datasets/llava_558k.py",
    "../_base_/schedules/llava_pretrain.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero2.py",
]

model = dict(
    train_parts=dict(vision_encoder=False, connector=True, language_model=False)
)
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        name="mgm-pretrain",
        data_root="data/mgm-pretrain",
        ann_file="mgm_pretrain.json",
        image_prefix="",
    ),
)
optim_wrapper = dict(accumulative_counts=2)
default_hooks = dict(checkpoint=dict(trainable_only=True))
