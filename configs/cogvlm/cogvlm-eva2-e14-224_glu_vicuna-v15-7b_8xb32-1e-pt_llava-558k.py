"""CogVLM-17B, pretraining: connector and visual experts learn from captions.

Reproduces: CogVLM's trainable set (language model and vision tower frozen).
Paper: Wang et al., "CogVLM: Visual Expert for Pretrained Language Models", NeurIPS
2024, arXiv 2311.03079.
Command: tools/dist_train.sh configs/cogvlm/cogvlm-eva2-e14-224_glu_vicuna-v15-7b_8xb32-1e-pt_llava-558k.py 8
Hardware: sized for 8 GPUs of 80 GB. The authors: 1.5 billion pairs.
Ours: not measured.
"""

_base_ = [
    "../_base_/models/cogvlm-eva2-e14-224_glu_vicuna-v15-7b.py",
    "../_base_/datasets/llava_558k.py",
    "../_base_/schedules/llava_pretrain.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero3.py",
]

# Captions end with EOS: CogVLM's base format is image, text.
chat_template = dict(_delete_=True, type="plain", end_mark="</s>")
model = dict(
    train_parts=dict(vision_encoder=False, connector=True, language_model="adapters")
)
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(parts={"language_model.adapters": dict(lr=1e-4)}),
)
default_hooks = dict(checkpoint=dict(trainable_only=True))
vision_weights = "work_dirs/eva02_enormous_patch14_clip_224"
load_from = dict(_delete_=True, path=vision_weights, parts=["vision_encoder"])
