"""LLaVA-1.5 7B, stage 2, on documents of the web.

Reproduces: nothing; the data of Flamingo's kind, images between texts.
Paper: Laurencon et al., "OBELICS", NeurIPS 2023, arXiv 2306.16527.
Command: tools/dist_train.sh configs/mixtures/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft_interleaved-mix.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/llava-clip-l14-336_mlp2x_vicuna-v15-7b.py",
    "../_base_/datasets/interleaved_mix.py",
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
