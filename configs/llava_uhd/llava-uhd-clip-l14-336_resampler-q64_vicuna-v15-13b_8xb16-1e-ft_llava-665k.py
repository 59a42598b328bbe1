"""LLaVA-UHD 13B, stage 2: connector and language model learn from slices.

Reproduces: LLaVA-UHD v1: slices of any aspect, on LLaVA-1.5's recipe (see the README).
Paper: Xu et al., "LLaVA-UHD: an LMM Perceiving Any Aspect Ratio and High-Resolution
Images", ECCV 2024, arXiv 2403.11703.
Command: tools/dist_train.sh configs/llava_uhd/llava-uhd-clip-l14-336_resampler-q64_vicuna-v15-13b_8xb16-1e-ft_llava-665k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/llava-uhd-clip-l14-336_resampler-q64_vicuna-v15-13b.py",
    "../_base_/datasets/llava_665k.py",
    "../_base_/schedules/llava_finetune.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero3.py",
]

model = dict(
    train_parts=dict(vision_encoder=False, connector=True, language_model=True),
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImages"),
            dict(type="SliceViews", max_slices=6, keep_aspect=True),
            dict(type="EncodeConversation", max_length=2048, overflow="truncate_text"),
            dict(type="PackVLMInputs"),
        ]
    )
)
load_from = dict(
    _delete_=True,
    path="work_dirs/llava-uhd-clip-l14-336_resampler-q64_vicuna-v15-13b_8xb32-1e-pt_llava-558k",
    parts=["connector"],
)
