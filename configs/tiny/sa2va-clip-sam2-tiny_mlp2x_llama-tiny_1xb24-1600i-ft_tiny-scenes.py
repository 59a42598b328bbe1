"""Tiny Sa2VA: SAM 2 makes a mask of the state of [SEG] itself, learnt on sampled points.

Reproduces: Sa2VA's image side in the small, on the sources of the tiny LISA. There is no
SAM 2 of this size to freeze, so its encoder learns as well.
Command: tools/train.py configs/tiny/sa2va-clip-sam2-tiny_mlp2x_llama-tiny_1xb24-1600i-ft_tiny-scenes.py
Hardware: sized for 2 CPU cores. The data need `make_tiny_scenes.py --format llava refcoco
ade20k reason_seg`. Needs transformers 4.56 or newer.
Expected: not measured.
"""

_base_ = "./lisa-clip-sam-tiny_mlp2x_llama-tiny_1xb24-1k-ft_tiny-scenes.py"

hiera = dict(
    hidden_size=16,
    image_size=[96, 96],
    window_positional_embedding_background_size=[6, 6],
    blocks_per_stage=[1, 1, 2, 2],
    embed_dim_per_stage=[16, 32, 64, 128],
    num_attention_heads_per_stage=[1, 1, 2, 4],
    window_size_per_stage=[8, 4, 6, 3],
    global_attention_blocks=[3, 5],
)
sam = dict(
    _delete_=True,
    type="SAM2VisionEncoder",
    reads=["image_hi"],
    random_init=True,
    config=dict(
        backbone_config=hiera,
        backbone_channel_list=[128, 64, 32, 16],
        backbone_feature_sizes=[[24, 24], [12, 12], [6, 6]],
        fpn_hidden_size=64,
    ),
)
mask = dict(
    _delete_=True,
    type="SAM2MaskHead",
    random_init=True,
    position="at",
    num_points=256,
    with_scores=False,  # nothing has taught its decoder to tell
    mask_decoder=dict(mlp_dim=128, num_attention_heads=4, iou_head_hidden_dim=32),
    weight=dict(mask_bce=2.0, mask_dice=0.5),
)
model = dict(encoders=dict(sam=sam), heads=dict(mask=mask), train_parts=dict(sam=True))
train_cfg = dict(max_iters=1600)
load_from = [
    dict(
        path="work_dirs/clip-tiny_contrastive_none_1xb192-1600i-pt_tiny-scenes",
        parts=["vision_encoder"],
    ),
    dict(
        path="work_dirs/llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes",
        parts=["connector", "language_model"],
    ),
]
