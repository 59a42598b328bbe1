"""LLaVA-1.5 7B, stage 2, on grounded captions (Kosmos-2's syntax).

Reproduces: nothing; grounded captions of the web, cells as tokens.
Paper: Peng et al., "Kosmos-2", arXiv 2306.14824.
Command: tools/dist_train.sh configs/mixtures/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft_grounding-kosmos2.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/llava-clip-l14-336_mlp2x_vicuna-v15-7b.py",
    "../_base_/datasets/grounding_kosmos2.py",
    "../_base_/schedules/llava_finetune.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero3.py",
]

model = dict(
    language_model=dict(new_tokens=dict(codec=dict(type="Kosmos2Codec"), train="all")),
    train_parts=dict(vision_encoder=False, connector=True, language_model=True),
)
load_from = dict(
    _delete_=True,
    path="work_dirs/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb32-1e-pt_llava-558k",
    parts=["connector"],
)
