"""MMFuser on LLaVA-1.5 13B, stage 2: connector and language model learn together.

Reproduces: the official recipe; every trained weight has the same rate.
Paper: Cao et al., "MMFuser: Multimodal Multi-Layer Feature Fuser for Fine-Grained
Vision-Language Understanding", 2024, arXiv 2410.11829.
Command: tools/dist_train.sh configs/mmfuser/llava-clip-l14-336_mmfuser_vicuna-v15-13b_8xb16-1e-ft_llava-665k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Published by the authors: VQAv2 80.1, GQA 63.4, TextVQA 59.9, POPE 87.5, MME 1585.2.
Ours: not measured.
"""

_base_ = [
    "../_base_/models/llava-clip-l14-336_mlp2x_vicuna-v15-13b.py",
    "../_base_/datasets/llava_665k.py",
    "../_base_/schedules/llava_finetune.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero3.py",
]

model = dict(
    connector=dict(
        _delete_=True,
        type="FusedConnector",
        fuser=dict(type="MMFuser", select_layers=[3, 8, 13, 18, 23]),
        projector=dict(type="MLPConnector", depth=2, act="gelu"),
    ),
    train_parts=dict(vision_encoder=False, connector=True, language_model=True),
)
load_from = dict(
    _delete_=True,
    path="work_dirs/llava-clip-l14-336_mmfuser_vicuna-v15-13b_8xb32-1e-pt_llava-558k",
    parts=["connector"],
)
