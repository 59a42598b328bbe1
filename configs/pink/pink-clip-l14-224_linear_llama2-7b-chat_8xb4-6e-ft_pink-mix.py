"""PINK-7B, stage 2: adapters, connector and the tags' rows learn from its task pool.

Reproduces: scripts/stage2.sh.
Paper: Xuan et al., "Pink: Unveiling the Power of Referential Comprehension for
Multi-modal LLMs", CVPR 2024, arXiv 2310.00582.
Command: tools/dist_train.sh configs/pink/pink-clip-l14-224_linear_llama2-7b-chat_8xb4-6e-ft_pink-mix.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/pink-clip-l14-224_linear_llama2-7b-chat.py",
    "../_base_/datasets/pink_mix.py",
    "../_base_/schedules/pink.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero2.py",
]

model = dict(
    train_parts=dict(
        vision_encoder="adapters", connector=True, language_model="adapters"
    )
)
base_batch_size = 32
default_hooks = dict(checkpoint=dict(trainable_only=True))
load_from = dict(
    _delete_=True,
    path="work_dirs/pink-clip-l14-224_linear_llama2-7b-chat_8xb16-1e-pt_llava-cc3m-595k",
    parts=["connector"],
)
