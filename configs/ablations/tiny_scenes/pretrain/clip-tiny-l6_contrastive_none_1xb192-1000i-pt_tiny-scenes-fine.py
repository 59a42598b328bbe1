"""The ablation's frozen tower: image-phrase contrast on fine TinyScenes.

Reproduces: nothing; a tower whose phrases neither read small print nor give exact
places, as CLIP's captions do not.
Command: tools/train.py configs/ablations/tiny_scenes/pretrain/clip-tiny-l6_contrastive_none_1xb192-1000i-pt_tiny-scenes-fine.py
Hardware: sized for 2 CPU cores.
Expected: loss 0.90 at the end.
"""

_base_ = [
    "../../../_base_/models/llava-clip-tiny-l6_mlp2x_llama-tiny.py",
    "../../../_base_/schedules/tiny.py",
    "../../../_base_/default_runtime.py",
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
    num_workers=0,
    sampler=dict(type="RandomBatchSampler"),
    collate_fn=dict(type="collate_phrases"),
    dataset=dict(
        type="ImagePhraseDataset",
        data_root="data/tiny_scenes_fine",
        ann_file="phrases.json",
    ),
)
base_batch_size = 192
train_cfg = dict(max_iters=1000)
