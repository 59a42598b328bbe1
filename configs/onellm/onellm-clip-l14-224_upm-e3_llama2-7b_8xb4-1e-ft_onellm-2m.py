"""OneLLM 7B, instruction tuning: only the language model learns.

Reproduces: the authors' multimodal_text_finetune.sh (batch 128; the paper says 512).
Paper: Han et al., "OneLLM: One Framework to Align All Modalities with Language",
CVPR 2024, arXiv 2312.03700.
Command: tools/dist_train.sh configs/onellm/onellm-clip-l14-224_upm-e3_llama2-7b_8xb4-1e-ft_onellm-2m.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: GQA 59.5, VQAv2 71.6, MMB 60.0, Clotho 29.1 CIDEr (authors). Ours: not measured.
"""

_base_ = [
    "../_base_/models/onellm-clip-l14-224_upm-e3_llama2-7b.py",
    "../_base_/datasets/onellm_2m.py",
    "../_base_/schedules/onellm_finetune.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/fsdp_grad_op.py",
]

model = dict(
    train_parts=dict(vision_encoder=False, connector=False, language_model=True)
)
load_from = [
    dict(
        path="work_dirs/onellm-clip-l14-224_upm-e3_llama2-7b_8xb40-12500i-pt_depth-normal-imu-fmri",
        parts=["vision_encoder", "connector"],
    )
]
