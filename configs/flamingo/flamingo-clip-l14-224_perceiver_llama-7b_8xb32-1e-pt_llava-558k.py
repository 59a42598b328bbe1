"""OpenFlamingo-9B: resampler and gated cross-attention learn, both towers frozen.

Reproduces: OpenFlamingo's optimizer, schedule and frozen parts, on captions.
Paper: Awadalla et al., "OpenFlamingo", 2023, arXiv 2308.01390.
Command: tools/dist_train.sh configs/flamingo/flamingo-clip-l14-224_perceiver_llama-7b_8xb32-1e-pt_llava-558k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Published by the authors for 9B (MMC4 and LAION): COCO 4-shot CIDEr 89.0, VQAv2
4-shot 54.8. Ours: not measured.
"""

_base_ = [
    "../_base_/models/flamingo-clip-l14-224_perceiver_llama-7b.py",
    "../_base_/datasets/llava_558k.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/ddp.py",
]

chat_template = dict(_delete_=True, type="plain", end_mark="<|endofchunk|>")
model = dict(
    # The head's new row stays the mean of the old ones, as the official code masks
    # gradients of the input embeddings alone.
    language_model=dict(
        new_tokens=dict(tokens=["<|endofchunk|>"], train="input_rows"),
    ),
    train_parts=dict(
        vision_encoder=False,
        connector=True,
        language_model=dict(only=["adapters"]),
    ),
)
base_batch_size = 256
train_cfg = dict(type="VLMTrainLoop", max_epochs=1, loss_norm="token")
optim_wrapper = dict(
    type="VLMOptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.1),
    constructor="PartOptimWrapperConstructor",
    # Only matrices of the cross-attention decay; rows of new tokens never do.
    paramwise_cfg=dict(
        parts=dict(),
        norm_and_bias_decay=False,
        decay={"connector.*": False, "*_gate": False},
    ),
    accumulative_counts=1,
    clip_grad=dict(max_norm=1.0),
    dtype="bfloat16",
)
# OpenFlamingo warms up for 5000 steps, or 1875 in its example; this epoch has 2181.
param_scheduler = [dict(type="WarmupConstantLR", warmup_ratio=0.1)]
default_hooks = dict(checkpoint=dict(trainable_only=True))
