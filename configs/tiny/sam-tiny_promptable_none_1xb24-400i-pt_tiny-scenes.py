"""Pretrain the tiny SAM: points, boxes and masks in, masks out.

Reproduces: nothing; gives the tiny LISA an image encoder that it can leave frozen.
Command: tools/train.py configs/tiny/sam-tiny_promptable_none_1xb24-400i-pt_tiny-scenes.py
Hardware: sized for 2 CPU cores. The data need `make_tiny_scenes.py --format llava refcoco`.
Expected: an IoU of 0.86 in training.
"""

_base_ = [
    "../_base_/models/lisa-clip-sam-tiny_mlp2x_llama-tiny.py",
    "../_base_/schedules/tiny.py",
    "../_base_/default_runtime.py",
]

model = dict(
    _delete_=True,
    type="PromptableSegmenter",
    sam={{_base_.sam}},
    mask_decoder={{_base_.mask_decoder}},
)
train_dataloader = dict(
    batch_size=24,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="RandomBatchSampler"),
    collate_fn=dict(type="collate_masks"),
    dataset=dict(
        type="ImageMaskDataset",
        source=dict(
            type="RefCOCODataset",
            data_root="data/tiny_scenes",
            ann_file="refcoco/refs(unc).p",
            image_prefix="images",
            per="image",
        ),
    ),
)
base_batch_size = 24
train_cfg = dict(max_iters=400)
optim_wrapper = dict(dtype=None)  # bfloat16 is slower here
