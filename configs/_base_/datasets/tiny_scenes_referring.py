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
comprehension = dict(type="ReferringComprehension")
train_dataloader = dict(
    batch_size=96,
    num_workers=0,
    sampler=dict(type="RandomBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        referring,
        name="tiny-scenes-referring",
        per="image",
        task=dict(
            type="MultiTurn",
            tasks=[comprehension, dict(type="ReferringGeneration")],
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
        shuffle_images=False,
    ),
)
test_cfg = dict()
test_evaluator = dict(type="ReferringMetric", rule="regions", out_file=None)
