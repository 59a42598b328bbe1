"""A LISA of 2.3 M parameters: a tiny LLaVA and a SAM of three layers at 96 pixels."""

_base_ = [
    "../vision_encoders/clip-tiny.py",
    "../language_models/llama-tiny.py",
]

sam = dict(
    type="SAMVisionEncoder",
    random_init=True,
    config=dict(
        hidden_size=64,
        output_channels=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=96,
        patch_size=8,
        window_size=4,
        global_attn_indexes=[1, 2],
        mlp_dim=256,
        num_pos_feats=32,
    ),
)
# The tables have rows to spare, of which [SEG] takes one.
tokenizer = dict(codec=dict(type="RegionTokenCodec", token="[SEG]"))
mask_decoder = dict(mlp_dim=128, num_attention_heads=4, iou_head_hidden_dim=32)
model = dict(
    type="VisionLanguageModel",
    vision_encoder=dict(_base_.vision_encoder, random_init=True),
    connector=dict(type="MLPConnector", depth=2, act="gelu", select_layers=[-2]),
    encoders=dict(sam=dict(reads=["image_hi"], **sam)),
    heads=dict(
        mask=dict(
            type="SAMMaskHead",
            random_init=True,
            mask_decoder=mask_decoder,
            with_scores=False,  # the tiny SAM has not learnt to tell
            weight=dict(mask_bce=2.0, mask_dice=0.5),
        )
    ),
)
