"""INF-LLaVA, stage 2: connector and language model learn from instructions.

Reproduces: the official recipe of INF-LLaVA.
Paper: Ma et al., "INF-LLaVA: Dual-perspective Perception for High-Resolution
Multimodal Large Language Model", 2024, arXiv 2407.16198.
Command: tools/dist_train.sh configs/inf_llava/inf-llava-clip-l14-336_dual-n3_llama3-8b_8xb8-1e-ft_llava-665k.py 8
Hardware: sized for 8 GPUs of 80 GB.
Published by the authors: SQA-I 75.71, OKVQA 60.67, SEED 70.47, MMB 70.35, MMB-CN 63.23,
AI2D 60.59, LLaVA-W 67.5, MMMU 37.0, POPE 86.94, MM-Vet 34.5.
Ours: not measured.
"""

_base_ = [
    "../_base_/models/llava-clip-l14-336_mlp2x_llama3-8b.py",
    "../_base_/datasets/llava_665k.py",
    "../_base_/schedules/llava_finetune.py",
    "../_base_/default_runtime.py",
    "../_base_/strategies/deepspeed_zero3.py",
]

model = dict(
    connector=dict(
        _delete_=True,
        type="FusedConnector",
        # The pipeline makes the views that this asks for.
        fuser=dict(type="DualPerspectiveFuser", grid=3, select_layers=[-2]),
        projector=dict(type="MLPConnector", depth=2, act="gelu"),
    ),
    train_parts=dict(vision_encoder=False, connector=True, language_model=True),
)
chat_template = dict(
    _delete_=True,
    type="llama_3",
    # The official text opens with BOS, and the tokenizer puts another in front.
    literal_bos="<|begin_of_text|>",
    system="A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's "
    "questions.",
)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        pipeline=[
            dict(type="LoadImages"),
            dict(type="DualPerspectiveViews", pad=True),
            dict(type="EncodeConversation", max_length=2048, overflow="truncate_text"),
            dict(type="PackVLMInputs"),
        ]
    ),
)
optim_wrapper = dict(accumulative_counts=2)
load_from = dict(
    _delete_=True,
    path="work_dirs/inf-llava-clip-l14-336_dual-n3_llama3-8b_8xb16-1e-pt_llava-558k",
    parts=["connector"],
)
