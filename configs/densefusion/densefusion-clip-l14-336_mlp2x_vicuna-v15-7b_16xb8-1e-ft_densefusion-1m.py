"""LLaVA-1.5 7B with DenseFusion, stage 2 (pre-training): half of the tower learns too.

Reproduces: the authors' script pretrain.sh: blocks 12 to 23 of the tower (from 0),
connector and language model at one rate.
Paper: Li et al., "DenseFusion-1M: Merging Vision Experts for Comprehensive Multimodal
Perception", NeurIPS 2024 Datasets and Benchmarks, arXiv 2407.08303.
Command: tools/dist_train.sh configs/densefusion/densefusion-clip-l14-336_mlp2x_vicuna-v15-7b_16xb8-1e-ft_densefusion-1m.py 16
Hardware: sized for 2 nodes of 8 GPUs of 80 GB (the authors: 16 x A100 of 40 GB, 15 h in all).
Expected: weights for the next stage; no benchmark is scored here. Ours: not measured.
"""

_base_ = [
    "../_base_/models/llava-clip-l14-336_mlp2x_vicuna-v15-7b.py",
    "../_base_/datasets/densefusion_1m.py",
    "../_base_/schedules/llava_finetune.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero3.py",
]

# Block 23 is trainable as in the official code, but layer -2 does not see it.
model = dict(
    vision_encoder=dict(gradient_checkpointing="all"),
    train_parts=dict(
        vision_encoder=dict(from_block=12), connector=True, language_model=True
    ),
)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        pipeline=[
            dict(type="LoadImages"),
            dict(type="CenterCropSquare"),
            dict(
                type="EncodeConversation",
                max_length=2100,
                overflow="truncate_text",
                count_images=False,
            ),
            dict(type="PackVLMInputs"),
        ]
    ),
)
optim_wrapper = dict(accumulative_counts=2)
base_batch_size = 256
load_from = dict(
    _delete_=True,
    path="work_dirs/densefusion-clip-l14-336_mlp2x_vicuna-v15-7b_16xb16-1e-pt_densefusion-1m",
    parts=["connector"],
)
