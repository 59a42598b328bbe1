"""LISA 7B: LLaVA (CLIP ViT-L/14 at 224 px, one linear layer, Vicuna-7B) and SAM ViT-H."""

_base_ = [
    "../vision_encoders/clip-l14-224.py",
    "../language_models/llama-7b.py",
]

model = dict(
    type="VisionLanguageModel",
    vision_encoder=_base_.vision_encoder,
    connector=dict(type="LinearConnector", select_layers=[-2]),
    encoders=dict(
        sam=dict(
            type="SAMVisionEncoder",
            reads=["image_hi"],
            name_or_path="facebook/sam-vit-huge",
            config=dict(
                hidden_size=1280,
                output_channels=256,
                num_hidden_layers=32,
                num_attention_heads=16,
                image_size=1024,
                patch_size=16,
                window_size=14,
                global_attn_indexes=[7, 15, 23, 31],
                mlp_dim=5120,
                num_pos_feats=128,
            ),
            torch_dtype="bfloat16",
        )
    ),
    heads=dict(
        mask=dict(
            type="SAMMaskHead",
            name_or_path="facebook/sam-vit-huge",
            weight=dict(mask_bce=2.0, mask_dice=0.5),
        )
    ),
    language_model=dict(
        new_tokens=dict(
            tokens=["[SEG]", "<im_start>", "<im_end>"], init="normal", train="all"
        )
    ),
    generation=dict(max_new_tokens=512, do_sample=False),
)
