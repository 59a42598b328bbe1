"""TinyScenes, tangled style: a box, a point or a free form is named, each on its own.

Written by tools/dataset_converters/make_tiny_scenes.py --style tangled --num 24000
--num-test 1000 --format llava refcoco ferret_grit --out data/tiny_scenes_tangled. A
config says its codec in ``processor``. Two things share every box: a bare box says that
one of them is meant, a point lies on one, a free form is one. Training draws the kind
of every question; the test asks the same questions in each way.
"""

regions = dict(
    type="FerretGRITDataset",
    data_root="data/tiny_scenes_tangled",
    ann_file="ferret_grit/vg_object_train.json",
    image_prefix="images",
)
train_dataloader = dict(
    batch_size=48,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="RandomBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        regions,
        name="tiny-scenes-region-kinds",
        point_share=0.4,
        mask_share=0.75,  # of a bare box no more can be learnt than a choice of two
    ),
)
asked = dict(
    regions,
    ann_file="ferret_grit/vg_object_test.json",
    indices=400,
    shuffle_images=False,
)
test_dataloader = dict(
    batch_size=80,
    num_workers=0,
    sampler=dict(type="SequentialBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="MixtureDataset",
        name="tiny-scenes-region-kinds-test",
        datasets=[
            dict(asked, name="box", point_share=0.0, mask_share=0.0),
            dict(asked, name="point", point_share=1.0, mask_share=0.0),
            dict(asked, name="free-form", point_share=0.0),
        ],
    ),
)
test_cfg = dict()
test_evaluator = dict(type="TinyScenesMetric", out_file=None)
