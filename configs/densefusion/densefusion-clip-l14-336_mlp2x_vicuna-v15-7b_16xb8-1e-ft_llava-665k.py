"""LLaVA-1.5 7B with DenseFusion, stage 3: instructions; the tuned tower is frozen.

Reproduces: the authors' script finetune.sh.
Paper: Li et al., "DenseFusion-1M: Merging Vision Experts for Comprehensive Multimodal
Perception", NeurIPS 2024 Datasets and Benchmarks, arXiv 2407.08303.
Command: tools/dist_train.sh configs/densefusion/densefusion-clip-l14-336_mlp2x_vicuna-v15-7b_16xb8-1e-ft_llava-665k.py 16
Hardware: sized for 2 nodes of 8 GPUs of 80 GB (the authors: 16 x A100 of 40 GB, 15 h in all).
Published by the authors: VQAv2 80.8, GQA 64.0, TextVQA 62.0, POPE 86.5, MME 1574.
Ours: not measured.
"""

_base_ = [
    "../_base_/models/llava-clip-l14-336_mlp2x_vicuna-v15-7b.py",
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
        pipeline=[
            dict(type="LoadImages"),
            dict(type="PadToSquare"),
            dict(
                type="EncodeConversation",
                max_length=2048,
                overflow="truncate_text",
                count_images=False,
            ),
            dict(type="PackVLMInputs"),
        ]
    ),
)
load_from = dict(
    _delete_=True,
    path="work_dirs/densefusion-clip-l14-336_mlp2x_vicuna-v15-7b_16xb8-1e-ft_densefusion-1m",
    parts=["vision_encoder", "connector", "language_model"],
)
