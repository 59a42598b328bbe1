"""OneLLM 7B, alignment stage III: depth, normals, motion and brain activity join.

Reproduces: the authors' multimodal_text_pretrain_stage3.sh (200,000 micro-batches, 16
to a step).
Paper: Han et al., "OneLLM: One Framework to Align All Modalities with Language",
CVPR 2024, arXiv 2312.03700.
Command: tools/dist_train.sh configs/onellm/onellm-clip-l14-224_upm-e3_llama2-7b_8xb40-12500i-pt_depth-normal-imu-fmri.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: a connector for instruction tuning. Ours: not measured.
"""

_base_ = [
    "../_base_/models/onellm-clip-l14-224_upm-e3_llama2-7b.py",
    "../_base_/datasets/onellm_align.py",
    "../_base_/schedules/onellm_align.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/fsdp_grad_op.py",
]

model = dict(
    train_parts=dict(
        vision_encoder=dict(only=["tokenizers"]), connector=True, language_model=False
    )
)
default_hooks = dict(checkpoint=dict(trainable_only=True))
load_from = [
    dict(
        path="work_dirs/onellm-clip-l14-224_upm-e3_llama2-7b_8xb40-25k-pt_audio-point-video",
        parts=["vision_encoder", "connector"],
        grow=True,
    )
]
