"""LISA's mixture: classes, expressions, questions and reasoning as 9 : 3 : 3 : 1.

Inside a source every dataset is as likely as the others. A mask is one token of the
answer; SAM sees the image once more, its longer side at 1024 pixels.
"""

_base_ = "./segmentation_sources.py"

codec = dict(type="RegionTokenCodec", token="[SEG]", write_phrases=False)
chat_template = dict(
    type="vicuna_v1", image_prefix="<im_start>", image_suffix="<im_end>"
)
steps = [
    dict(type="LoadImages", any_suffix=True),
    dict(type="CenterCropSquare"),
    dict(type="WriteRegions", codec=codec),
]
pipeline = [
    *steps,
    dict(type="EncodeConversation", max_length=512, overflow="truncate_text"),
    dict(type="SAMViews", only_marked=True),
    dict(type="MaskTargets"),
    dict(type="PackVLMInputs"),
]
common = dict(bad_samples=dict(policy="skip", max_fraction=0.01), pipeline=pipeline)
refer = dict(
    type="RefCOCODataset",
    data_root="data/refer",
    image_prefix="train2014",
    per="image",
    task=dict(type="ReferringSegmentation"),
    **common,
)
reason_seg = dict(type="ReasonSegDataset", data_root="data/ReasonSeg")
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="RandomBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="MixtureDataset",
        name="lisa-mix",
        by="samples",
        size=800000,  # 5000 steps of 160
        weights=[36, 36, 36, 36, 36, 15, 15, 15, 15, 60, 20],
        datasets=[
            *(dict(source, **common) for source in _base_.class_sources),
            dict(
                refer,
                name="refclef",
                ann_file="refclef/refs(unc).p",
                image_prefix="saiapr_tc-12",
            ),
            dict(refer, name="refcoco", ann_file="refcoco/refs(unc).p"),
            dict(refer, name="refcoco+", ann_file="refcoco+/refs(unc).p"),
            dict(refer, name="refcocog", ann_file="refcocog/refs(umd).p"),
            dict(
                type="LLaVADataset",
                name="llava-150k",
                data_root="data/llava_dataset",
                ann_file="llava_instruct_150k.json",
                image_prefix="train2017",
                **common,
            ),
            dict(
                reason_seg,
                name="reason-seg",
                ann_file="train",
                explanatory_file="explanatory/train.json",
                task=dict(type="ReasoningSegmentation"),
                **common,
            ),
        ],
    ),
)
test_dataloader = dict(
    batch_size=8,
    num_workers=4,
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        reason_seg,
        name="reason-seg-val",
        ann_file="val",
        # The official prompts of validation, with their space behind the line break.
        task=dict(
            type="ReasoningSegmentation",
            names=" What is <name> in this image? Please output segmentation mask.",
            sentences=" <text> Please output segmentation mask.",
            take="first",
            explain=False,
            ask_empty=True,
        ),
        pipeline=[
            *steps,
            dict(type="EncodeConversation", mode="generate"),
            dict(type="SAMViews"),
            dict(type="PackVLMInputs"),
        ],
    ),
)
test_cfg = dict()
test_evaluator = dict(type="MaskIoUMetric", out_file=None)
