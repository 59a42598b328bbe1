"""Pretrain the tiny vision tower by image-phrase contrast.

Reproduces: nothing; gives stage 1 a frozen tower that was never trained to talk.
Command: tools/train.py configs/tiny/clip-tiny_contrastive_none_1xb192-1600i-pt_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: a training loss of 0.84 at the end.
"""

_base_ = [
    "../_base_/models/llava-clip-tiny_mlp2x_llama-tiny.py",
    "../_base_/schedules/tiny.py",
    "../_base_/default_runtime.py",
]

model = dict(
    _delete_=True,
    type="ContrastiveModel",
    vision_encoder={{_base_.model.vision_encoder}},
    text_encoder=dict(type="PhraseEncoder", vocab_size=640, width=128),
    select_layer=-1,
)
train_dataloader = dict(
    batch_size=192,
    num_workers=1,  # images and phrases take a seventh of a step
    persistent_workers=True,
    sampler=dict(type="RandomBatchSampler"),
    collate_fn=dict(type="collate_phrases"),
    dataset=dict(
        type="ImagePhraseDataset",
        data_root="data/tiny_scenes",
        ann_file="phrases.json",
    ),
)
base_batch_size = 192
train_cfg = dict(max_iters=1600)
