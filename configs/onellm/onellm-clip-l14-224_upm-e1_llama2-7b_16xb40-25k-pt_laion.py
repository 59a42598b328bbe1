"""OneLLM 7B, alignment stage I: one expert learns from images.

Reproduces: the authors' image_text_pretrain_slurm.sh (40 samples x 8 accumulated x
16 GPUs). Its 200,000 iterations are micro-batches, so 25,000 steps.
Paper: Han et al., "OneLLM: One Framework to Align All Modalities with Language",
CVPR 2024, arXiv 2312.03700.
Command: tools/dist_train.sh configs/onellm/onellm-clip-l14-224_upm-e1_llama2-7b_16xb40-25k-pt_laion.py 16
Hardware: sized for 16 GPUs of 80 GB.
Expected: a connector for stage II. Ours: not measured.
"""

_base_ = (
    "./onellm-clip-l14-224_upm-e3_llama2-7b_8xb40-12500i-pt_depth-normal-imu-fmri.py"
)

model = dict(
    vision_encoder=dict(tokenizers=dict(_delete_=True)),
    connector=dict(modalities=["image"], num_experts=1),
    train_parts=dict(vision_encoder=False),
)
train_dataloader = dict(
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
train_cfg = dict(max_iters=25_000)
optim_wrapper = dict(optimizer=dict(lr=5e-5), accumulative_counts=8)
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.01, min_ratio=0.1)]
load_from = None
