"""OneLLM 7B, alignment stage II: audio, point clouds and video join the images.

Reproduces: the authors' multimodal_text_pretrain_stage2.sh (400,000 micro-batches, 16
to a step). All experts begin as the one of stage I.
Paper: Han et al., "OneLLM: One Framework to Align All Modalities with Language",
CVPR 2024, arXiv 2312.03700.
Command: tools/dist_train.sh configs/onellm/onellm-clip-l14-224_upm-e3_llama2-7b_8xb40-25k-pt_audio-point-video.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: a connector for stage III. Ours: not measured.
"""

_base_ = (
    "./onellm-clip-l14-224_upm-e3_llama2-7b_8xb40-12500i-pt_depth-normal-imu-fmri.py"
)

model = dict(
    vision_encoder=dict(
        tokenizers=dict(
            _delete_=True,
            video=dict(type="FramesTokenizer", num_frames=15),
            audio=dict(type="SpectrogramTokenizer"),
            point=dict(type="PointCloudTokenizer"),
        )
    ),
    connector=dict(modalities=["image", "video", "audio", "point"]),
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
            for name in ("laion-coco", "webvid", "wavcaps", "cap3d")
        ]
    )
)
train_cfg = dict(max_iters=25_000)
param_scheduler = [dict(type="WarmupCosineLR", warmup_ratio=0.005, min_ratio=0.5)]
load_from = [
    dict(
        path="work_dirs/onellm-clip-l14-224_upm-e1_llama2-7b_16xb40-25k-pt_laion",
        parts=["connector"],
        grow=True,
    )
]
