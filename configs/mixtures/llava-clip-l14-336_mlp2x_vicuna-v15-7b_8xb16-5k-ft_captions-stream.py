"""LLaVA-1.5 7B, stage 2, on a stream of captions.

Reproduces: nothing; rows without length, trained by steps.
Paper: Liu et al., "Improved Baselines with Visual Instruction Tuning", CVPR 2024,
arXiv 2310.03744.
Command: tools/dist_train.sh configs/mixtures/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-5k-ft_captions-stream.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/llava-clip-l14-336_mlp2x_vicuna-v15-7b.py",
    "../_base_/datasets/captions_stream.py",
    "../_base_/schedules/llava_finetune.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero3.py",
]

model = dict(
    train_parts=dict(vision_encoder=False, connector=True, language_model=True),
)
train_cfg = dict(_delete_=True, type="VLMTrainLoop", max_iters=5000, loss_norm="token")
load_from = dict(
    _delete_=True,
    path="work_dirs/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb32-1e-pt_llava-558k",
    parts=["connector"],
)
