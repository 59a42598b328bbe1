"""TinyScenes' referring expressions: where is it, and what is there?

Written by tools/dataset_converters/make_tiny_scenes.py --format llava refcoco
--out data/tiny_scenes. A config says its codec in ``processor`` and the official rule of
its system in ``test_evaluator``.
"""

referring = dict(
    type="RefCOCODataset",
    data_root="data/tiny_scenes",
    ann_file="refcoco/refs(unc).p",
    image_prefix="images",
)
# The wordings of TinyScenes' own questions: its tokenizer has words for them.
comprehension = dict(
    type="ReferringComprehension", templates="Give the box of the <expr>."
)
generation = dict(type="ReferringGeneration", templates="What is at <objs>?")
train_dataloader = dict(
    batch_size=48,
    num_workers=0,
    sampler=dict(type="RandomBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        referring,
        name="tiny-scenes-referring",
        per="image",
        task=dict(
            type="MultiTurn",
            tasks=[comprehension, generation],
            weights=[4, 1],
            max_rounds=4,
        ),
    ),
)
test_dataloader = dict(
    batch_size=90,
    num_workers=0,
    sampler=dict(type="SequentialBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        referring,
        name="tiny-scenes-referring-test",
        split=["testA", "testB"],
        task=comprehension,
        # Expressions of two words: the place, which others say, gives more than half of
        # the boxes away to a model that does not see the image.
        filter_cfg=dict(max_words=8),
        indices=2000,
        shuffle_images=False,
    ),
)
test_cfg = dict()
test_evaluator = dict(type="ReferringMetric", rule="regions", out_file=None)
