"""OneLLM 7B, alignment stage I: one expert learns from pictures.

Reproduces: the recipe of the paper (40 samples x 8 accumulated x 16 GPUs).
Paper: Han et al., "OneLLM: One Framework to Align All Modalities with Language",
CVPR 2024, arXiv 2312.03700.
Command: tools/dist_train.sh configs/onellm/onellm-clip-l14-224_upm-e1_llama2-7b_16xb40-200k-pt_laion.py 16
Hardware: sized for 16 GPUs of 80 GB.
Expected: a connector for stage II. Ours: not measured.
"""

_base_ = "./onellm-clip-l14-224_upm-e3_llama2-7b_8xb45-100k-pt_depth-normal-imu-fmri.py"

model = dict(
    vision_encoder=dict(tokenizers=dict(_delete_=True)),
    connector=dict(modalities=["image"], num_experts=1),
    train_parts=dict(vision_encoder=False),
)
base_batch_size = 5120
train_dataloader = dict(
    batch_size=40,
    dataset=dict(
        datasets=[
            dict(
                type="LLaVADataset",
                name=name,
                data_root="data/onellm-align",
                ann_file=f"{name}.json",
                pipeline={{_base_.onellm_pipeline}},
            )
            for name in ("laion-400m", "laion-coco")
        ]
    ),
)
train_cfg = dict(max_iters=200_000)
optim_wrapper = dict(optimizer=dict(lr=5e-5), accumulative_counts=8)
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.00125, min_ratio=0.1)]
load_from = None
