"""Shikra, stage 1: what of its tasks has a public file and a reader here.

LLaVA's two caption sets, VQAv2 and COCO captions, regions of Visual Genome (a twentieth
of both ways), expressions both ways, captions of Flickr30k with their boxes, questions
of PointQA about a point or a box.
"""

_base_ = "./shikra_rec.py"

generation = dict(type="ReferringGeneration")
point_qa = dict(
    type="ShikraPointQADataset",
    data_root="data",
    image_prefix="visual_genome",
    task=dict(type="PointQA", answer="The answer is <answer> ."),
    **_base_.common,
)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="MixtureDataset",
        name="shikra-tasks",
        weights=[0.05, 0.05, *[1] * 9],
        datasets=[
            dict(_base_.visual_genome, name="gc-vg", task=dict(type="RegionCaption")),
            dict(_base_.visual_genome, name="rec-vg", task=_base_.comprehension),
            dict(
                type="LLaVADataset",
                name="llava-cc3m",
                data_root="data/llava",
                ann_file="llava_cc3m_595k.json",
                image_prefix="cc3m",
                **_base_.common,
            ),
            dict(
                type="LLaVADataset",
                name="llava-lcs",
                data_root="data/llava",
                ann_file="blip_laion_cc_sbu_558k.json",
                image_prefix="lcs",
                **_base_.common,
            ),
            dict(
                type="VQAv2Dataset",
                name="vqav2",
                data_root="data/vqav2",
                ann_file="v2_OpenEnded_mscoco_train2014_questions.json",
                answer_file="v2_mscoco_train2014_annotations.json",
                image_prefix="train2014",
                **_base_.common,
            ),
            dict(
                type="COCOCaptionsDataset",
                name="captions",
                data_root="data/coco",
                ann_file="annotations/captions_train2014.json",
                image_prefix="train2014",
                **_base_.common,
            ),
            _base_.rec,
            dict(_base_.rec, name="reg", task=generation),
            dict(
                type="ShikraFlickr30kDataset",
                name="flickr30k",
                data_root="data/shikra",
                ann_file="CWB_flickr30k_train.jsonl",
                image_prefix="flickr30k-images",
                **_base_.common,
            ),
            dict(
                point_qa,
                name="point-qa-local",
                ann_file="shikra/pointQA_local_train.jsonl",
            ),
            dict(
                point_qa,
                name="point-qa-twice",
                ann_file="shikra/pointQA_twice_train.jsonl",
                asks="general",
            ),
        ],
    )
)
