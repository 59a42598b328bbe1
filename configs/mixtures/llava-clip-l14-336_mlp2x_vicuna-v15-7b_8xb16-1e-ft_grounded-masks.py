"""LLaVA-1.5 7B, stage 2, on captions with a mask per phrase, and on gRefCOCO.

Reproduces: the data of GLaMM's fine-tuning on GranD-f, text side alone: no mask is
decoded.
Paper: Rasheed et al., "GLaMM: Pixel Grounding Large Multimodal Model", CVPR 2024, arXiv
2311.03356; Liu et al., "GRES", CVPR 2023, arXiv 2306.00968.
Command: tools/dist_train.sh configs/mixtures/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft_grounded-masks.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: not measured.
"""

_base_ = [
    "../_base_/models/llava-clip-l14-336_mlp2x_vicuna-v15-7b.py",
    "../_base_/datasets/grounded_masks.py",
    "../_base_/schedules/llava_finetune.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero3.py",
]

model = dict(
    language_model=dict(
        new_tokens=dict(
            codec=dict(
                type="RegionTokenCodec", token="[SEG]", phrase_marks=["<p>", "</p>"]
            ),
            train="all",
        )
    ),
    train_parts=dict(vision_encoder=False, connector=True, language_model=True),
)
load_from = dict(
    _delete_=True,
    path="work_dirs/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb32-1e-pt_llava-558k",
    parts=["connector"],
)
