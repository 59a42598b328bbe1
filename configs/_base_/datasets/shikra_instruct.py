"""Shikra, stage 2: half dialogues and grounded reasoning, half tasks with boxes.

The first half are LLaVA's instructions and two sets of reasoning whose things have
boxes; the second are Flickr30k, expressions both ways and questions.
"""

_base_ = "./shikra_rec.py"

grounded = dict(
    type="ShikraReasoningDataset",
    data_root="data/shikra",
    image_prefix="flickr30k-images",
    task=dict(type="GroundedReasoning"),
    **_base_.common,
)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="MixtureDataset",
        name="shikra-instruct",
        by="samples",
        weights=[1 / 6, 1 / 6, 1 / 6, 1 / 8, 1 / 8, 1 / 8, 1 / 8],
        datasets=[
            dict(
                type="LLaVADataset",
                name="llava-instruct",
                data_root="data/llava",
                ann_file="llava_instruct_150k.json",
                image_prefix="train2014",
                **_base_.common,
            ),
            dict(grounded, name="gpt4gen", ann_file="GPT4GEN_BoxCoT_train.jsonl"),
            dict(grounded, name="rd", ann_file="GPT4GEN_RD_BoxCoT_train.jsonl"),
            dict(
                type="ShikraFlickr30kDataset",
                name="flickr30k",
                data_root="data/shikra",
                ann_file="CWB_flickr30k_train.jsonl",
                image_prefix="flickr30k-images",
                **_base_.common,
            ),
            _base_.rec,
            dict(_base_.rec, name="reg", task=dict(type="ReferringGeneration")),
            dict(
                type="VQAv2Dataset",
                name="vqav2",
                data_root="data/vqav2",
                ann_file="v2_OpenEnded_mscoco_train2014_questions.json",
                answer_file="v2_mscoco_train2014_annotations.json",
                image_prefix="train2014",
                **_base_.common,
            ),
        ],
    )
)
