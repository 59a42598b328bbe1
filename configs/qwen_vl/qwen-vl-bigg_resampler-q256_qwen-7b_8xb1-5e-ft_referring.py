"""Qwen-VL, fine-tuning on expressions: their boxes, and words for boxes.

Reproduces: the official finetune.py with fix_vit, on the grounding tasks of stage 2.
Paper: Bai et al., "Qwen-VL: A Versatile Vision-Language Model for Understanding,
Localization, Text Reading, and Beyond", 2023, arXiv 2308.12966.
Command: tools/dist_train.sh configs/qwen_vl/qwen-vl-bigg_resampler-q256_qwen-7b_8xb1-5e-ft_referring.py 8
Hardware: sized for 8 GPUs of 80 GB.
Expected: not measured.
"""

_base_ = "./qwen-vl-bigg_resampler-q256_qwen-7b_8xb1-5e-ft_custom.py"

codec = dict(type="QwenVLCodec")
processor = dict(
    views=dict(type="ResizeSquare", size=448),
    codec=codec,
    max_length=2048,
    overflow="truncate_text",
)
comprehension = dict(type="ReferringComprehension", repeat_phrase=True)
refcoco = dict(
    type="FlatReferringDataset",
    data_root="data/qwen-vl",
    image_prefix="",
    dialect="qwen_vl",
)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="MixtureDataset",
        name="referring",
        datasets=[
            dict(
                refcoco, name="rec", ann_file="refcoco_train.jsonl", task=comprehension
            ),
            dict(
                refcoco,
                name="reg",
                ann_file="refcoco_train.jsonl",
                task=dict(type="ReferringGeneration"),
            ),
        ],
    )
)
test_dataloader = dict(
    batch_size=8,
    num_workers=4,
    sampler=dict(type="SequentialBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        refcoco, name="refcoco-val", ann_file="refcoco_val.jsonl", task=comprehension
    ),
)
test_cfg = dict()
test_evaluator = dict(type="ReferringMetric", rule="qwen_vl")
