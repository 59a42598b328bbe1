"""PINK-7B, stage 1: the connector learns from captions.

Reproduces: scripts/stage1.sh.
Paper: Xuan et al., "Pink: Unveiling the Power of Referential Comprehension for
Multi-modal LLMs", CVPR 2024, arXiv 2310.00582.
Command: tools/dist_train.sh configs/pink/pink-clip-l14-224_linear_llama2-7b-chat_8xb16-1e-pt_llava-cc3m-595k.py 8
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

# A caption ends with EOS and stands behind its image, without its question.
chat_template = dict(
    _delete_=True,
    type="plain",
    end_mark="</s>",
    image_prefix="Image: ",
    image_suffix="\n",
    frame_question=True,
)
model = dict(
    language_model=dict(adapters=[], new_tokens=dict(train=None)),
    train_parts=dict(vision_encoder=False, connector=True, language_model=False),
)
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        _delete_=True,
        type="LLaVADataset",
        name="llava-cc3m-595k",
        data_root="data/llava",
        ann_file="llava_cc3m_595k.json",
        image_prefix="cc3m",
    ),
)
base_batch_size = 128
train_cfg = dict(max_epochs=1)
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=0.0))
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.03)]
default_hooks = dict(checkpoint=dict(trainable_only=True))
