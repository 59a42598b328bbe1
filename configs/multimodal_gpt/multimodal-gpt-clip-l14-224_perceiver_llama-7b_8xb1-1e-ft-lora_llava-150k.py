"""Multimodal-GPT: LoRA in LLaMA-7B and in OpenFlamingo's cross-attention, all else frozen.

Reproduces: the official LoRA recipe.
Paper: Gong et al., "MultiModal-GPT: A Vision and Language Model for Dialogue with
Humans", 2023, arXiv 2305.04790.
Command: tools/dist_train.sh configs/multimodal_gpt/multimodal-gpt-clip-l14-224_perceiver_llama-7b_8xb1-1e-ft-lora_llava-150k.py 8
Hardware: sized for 8 GPUs of 40 GB.
Published by the authors: examples only. Ours: not measured.
"""

_base_ = [
    "../_base_/models/flamingo-clip-l14-224_perceiver_llama-7b.py",
    "../_base_/datasets/llava_665k.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/ddp.py",
]

chat_template = "multimodal_gpt"
targets = ["q_proj", "k_proj", "v_proj", "o_proj", "to_q", "to_kv", "to_out"]
targets += ["ff.1", "ff.3"]
model = dict(
    language_model=dict(
        # Of OpenFlamingo, whose checkpoint has their rows.
        new_tokens=dict(tokens=["<|endofchunk|>"], train=None),
        lora=dict(r=16, alpha=16, dropout=0.0, bias="none", target_modules=targets),
    ),
    train_parts=dict(vision_encoder=False, connector=False, language_model="lora"),
)
train_dataloader = dict(
    batch_size=1,
    dataset=dict(name="llava-150k", ann_file="llava_instruct_150k.json"),
)
base_batch_size = 128
train_cfg = dict(type="VLMTrainLoop", max_epochs=1, loss_norm="token")
optim_wrapper = dict(
    type="VLMOptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-5, weight_decay=0.1),
    constructor="PartOptimWrapperConstructor",
    # LoRA decays in the cross-attention, not in LLaMA's own layers.
    paramwise_cfg=dict(
        parts=dict(),
        norm_and_bias_decay=False,
        decay={"language_model.model.*": False},
    ),
    accumulative_counts=16,
    clip_grad=dict(max_norm=1.0),
    dtype="bfloat16",
)
# 100 of the 1232 steps of 157,712 samples. Constant is the script's default; the
# command in its README asks for a cosine: type="WarmupCosineLR".
param_scheduler = [dict(type="WarmupConstantLR", warmup_ratio=0.081)]
randomness = dict(seed=42)
default_hooks = dict(checkpoint=dict(trainable_only=True))
load_from = dict(
    _delete_=True,
    path="work_dirs/flamingo-clip-l14-224_perceiver_llama-7b_8xb32-1e-pt_llava-558k",
    parts=["connector", "language_model"],
    strict=False,  # that checkpoint knows no LoRA
)
