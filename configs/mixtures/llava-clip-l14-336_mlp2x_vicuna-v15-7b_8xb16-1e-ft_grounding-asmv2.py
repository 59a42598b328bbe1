"""LLaVA-1.5 7B, stage 2, on grounded captions and expressions (All-Seeing v2).

Reproduces: nothing; grounded captions and expressions as lists of integers.
Paper: Wang et al., "The All-Seeing Project V2", ECCV 2024, arXiv 2402.19474.
Command: tools/dist_train.sh configs/mixtures/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft_grounding-asmv2.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/llava-clip-l14-336_mlp2x_vicuna-v15-7b.py",
    "../_base_/datasets/grounding_asmv2.py",
    "../_base_/schedules/llava_finetune.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero3.py",
]

model = dict(
    train_parts=dict(vision_encoder=False, connector=True, language_model=True),
)
load_from = dict(
    _delete_=True,
    path="work_dirs/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb32-1e-pt_llava-558k",
    parts=["connector"],
)
