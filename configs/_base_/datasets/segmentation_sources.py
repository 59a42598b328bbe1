"""Sets of classes and parts that LISA's mixture asks about, without pipeline."""

class_sources = [
    dict(
        type="ADE20KDataset",
        name="ade20k",
        data_root="data/ade20k",
        ann_file="objectInfo150.txt",
        image_prefix="images/training",
        label_prefix="annotations/training",
    ),
    dict(
        type="COCOStuffDataset",
        name="coco-stuff",
        data_root="data/cocostuff",
        ann_file="labels.txt",
        image_prefix="train2017",
        label_prefix="stuffthingmaps/train2017",
    ),
    dict(
        type="MapillaryVistasDataset",
        name="mapillary",
        data_root="data/mapillary",
        ann_file="config_v2.0.json",
        image_prefix="training/images",
        label_prefix="training/v2.0/labels",
    ),
    dict(
        type="PACOLVISDataset",
        name="paco",
        data_root="data/paco",
        ann_file="annotations/paco_lvis_v1_train.json",
        image_prefix="",
        task=dict(type="SemanticSegmentation", unit="instance"),
    ),
    dict(
        type="PascalPartDataset",
        name="pascal-part",
        data_root="data/pascal_part",
        ann_file="train.json",
        image_prefix="VOCdevkit/VOC2010/JPEGImages",
    ),
]
