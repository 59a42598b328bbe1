"""LISA 7B: LoRA, tables, projection and SAM's mask decoder learn from four sources.

Reproduces: the official recipe of LISA.
Paper: Lai et al., "LISA: Reasoning Segmentation via Large Language Model", CVPR 2024,
arXiv 2308.00692.
Command: tools/dist_train.sh configs/lisa/lisa-clip-l14-224-sam-h_linear_vicuna-7b_8xb2-5k-ft-lora_lisa-mix.py 8
Hardware: sized for 8 GPUs of 40 GB; the authors used 8 of 24 GB.
Published by the authors: ReasonSeg val 44.4 gIoU, 46.0 cIoU without its train split's
fine-tuning.
Ours: not measured.
"""

_base_ = [
    "../_base_/models/lisa-clip-l14-224-sam-h_linear_vicuna-7b.py",
    "../_base_/datasets/lisa_mix.py",
    "../_base_/schedules/lisa.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero2.py",
]

model = dict(
    language_model=dict(
        lora=dict(r=8, alpha=16, dropout=0.05, target_modules=["q_proj", "v_proj"])
    ),
    train_parts=dict(
        vision_encoder=False,
        sam=False,
        connector=False,
        language_model="lora",
        mask=dict(frozen=["prompt_encoder"]),
    ),
)
default_hooks = dict(checkpoint=dict(trainable_only=True))
load_from = dict(
    _delete_=True,
    path="pretrained/llava-lightning-7b-v1-1.pth",
    parts=["connector", "language_model"],
)
