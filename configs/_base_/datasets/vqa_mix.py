"""LLaVA-1.5's mixture from the public files: questions, captions, regions."""

chat_template = "vicuna_v1"
short = "Answer the question using a single word or phrase."
letter = "Answer with the option's letter from the given choices directly."
pipeline = [
    dict(type="LoadImages", any_suffix=True),
    dict(type="PadToSquare"),
    dict(type="WriteRegions", codec=dict(type="LLaVACodec")),
    dict(type="EncodeConversation", max_length=2048, overflow="truncate_text"),
    dict(type="PackVLMInputs"),
]
common = dict(bad_samples=dict(policy="skip", max_fraction=0.01), pipeline=pipeline)
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="BalancedBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="MixtureDataset",
        name="vqa-mix",
        datasets=[
            dict(
                type="VQAv2Dataset",
                name="vqav2",
                data_root="data/vqav2",
                ann_file="v2_OpenEnded_mscoco_train2014_questions.json",
                answer_file="v2_mscoco_train2014_annotations.json",
                image_prefix="train2014",
                task=dict(type="VisualQuestionAnswering", suffix=short),
                group="image",
                **common,
            ),
            dict(
                type="OKVQADataset",
                name="okvqa",
                data_root="data/okvqa",
                ann_file="OpenEnded_mscoco_train2014_questions.json",
                answer_file="mscoco_train2014_annotations.json",
                image_prefix="train2014",
                **common,
            ),
            dict(
                type="AOKVQADataset",
                name="aokvqa",
                data_root="data/aokvqa",
                ann_file="aokvqa_v1p0_train.json",
                image_prefix="train2017",
                rotate_choices=True,
                task=dict(type="MultipleChoice", suffix=letter),
                **common,
            ),
            dict(
                type="GQADataset",
                name="gqa",
                data_root="data/gqa",
                ann_file="train_balanced_questions.json",
                image_prefix="images",
                group="image",
                **common,
            ),
            dict(
                type="OCRVQADataset",
                name="ocr-vqa",
                data_root="data/ocr_vqa",
                ann_file="dataset.json",
                image_prefix="images",
                **common,
            ),
            dict(
                type="TextVQADataset",
                name="textvqa",
                data_root="data/textvqa",
                ann_file="TextVQA_0.5.1_train.json",
                ocr_file="TextVQA_Rosetta_OCR_v0.2_train.json",
                image_prefix="train_images",
                **common,
            ),
            dict(
                type="VizWizDataset",
                name="vizwiz",
                data_root="data/vizwiz",
                ann_file="train.json",
                image_prefix="train",
                **common,
            ),
            dict(
                type="ScienceQADataset",
                name="scienceqa",
                data_root="data/scienceqa",
                ann_file="problems.json",
                split="train",
                image_prefix="images",
                task=dict(
                    type="ScienceQuestion",
                    form="CQM-A",
                    letter_only=True,
                    suffix=letter,
                ),
                **common,
            ),
            dict(
                type="RefCOCODataset",
                name="refcoco",
                data_root="data/refer",
                ann_file="refcoco/refs(unc).p",
                image_prefix="train2014",
                per="image",
                task=dict(
                    type="MultiTurn",
                    tasks=[
                        dict(type="ReferringComprehension"),
                        dict(type="ReferringGeneration"),
                    ],
                ),
                **common,
            ),
            dict(
                type="VisualGenomeDataset",
                name="visual-genome",
                data_root="data/visual_genome",
                ann_file="region_descriptions.json",
                also=["objects.json", "attributes.json", "relationships.json"],
                image_data="image_data.json",
                image_prefix="",
                with_folder=True,
                task=dict(type="RegionCaption"),
                **common,
            ),
        ],
    ),
)
test_dataloader = dict(
    batch_size=16,
    num_workers=4,
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="ScienceQADataset",
        name="scienceqa-test",
        data_root="data/scienceqa",
        ann_file="problems.json",
        split="test",
        image_prefix="images",
        task=dict(
            type="ScienceQuestion", form="CQM-A", letter_only=True, suffix=letter
        ),
        pipeline=[
            dict(type="LoadImages", any_suffix=True),
            dict(type="PadToSquare"),
            dict(type="EncodeConversation", mode="generate"),
            dict(type="PackVLMInputs"),
        ],
    ),
)
test_cfg = dict()
test_evaluator = dict(type="ExactMatchMetric", out_file=None)
