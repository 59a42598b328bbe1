"""Mini-Gemini 7B, stage 2: mining, projector and language model learn.

Reproduces: the official recipe (2e-5, 8 samples per GPU, 128 per step).
Paper: Li et al., "Mini-Gemini: Mining the Potential of Multi-modality Vision Language
Models", 2024, arXiv 2403.18814.
Command: tools/dist_train.sh configs/mini_gemini/mini-gemini-clip-l14-336-convnext-l-768_mining_vicuna-v15-7b_8xb8-1e-ft_mgm-instruct.py 8
Hardware: sized for 8 GPUs of 80 GB.
Published by the authors: TextVQA 65.2, MMB 69.3, MME 1523/316, MM-Vet 40.8,
MMMU 36.1/32.8, MathVista 31.4. Ours: not measured.
"""

_base_ = [
    "../_base_/models/mini-gemini-clip-l14-336-convnext-l-768_mining_vicuna-v15-7b.py",
    "../_base_/datasets/llava_665k.py",
    "../_base_/schedules/llava_finetune.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero3.py",
]

model = dict(
    train_parts=dict(vision_encoder=False, connector=True, language_model=True)
)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        name="mgm-instruct",
        data_root="data/mgm-finetune",
        ann_file="mgm_instruction.json",
    ),
)
optim_wrapper = dict(accumulative_counts=2)
load_from = dict(
    _delete_=True,
    path="work_dirs/mini-gemini-clip-l14-336-convnext-l-768_mining_vicuna-v15-7b_8xb16-1e-pt_mgm-pretrain",
    parts=["connector"],
)
