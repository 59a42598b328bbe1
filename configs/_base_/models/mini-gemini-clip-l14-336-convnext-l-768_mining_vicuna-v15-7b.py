"""Mini-Gemini 7B: CLIP ViT-L/14 at 336 px mines ConvNeXt-L at 768 px."""

model = dict(
    type="VisionLanguageModel",
    vision_encoder=dict(
        type="DualVisionEncoder",
        low=dict(
            type="HFVisionEncoder",
            name_or_path="openai/clip-vit-large-patch14-336",
            config=dict(
                model_type="clip_vision_model",
                hidden_size=1024,
                intermediate_size=4096,
                num_hidden_layers=24,
                num_attention_heads=16,
                image_size=336,
                patch_size=14,
                hidden_act="quick_gelu",
                projection_dim=768,
            ),
            torch_dtype="bfloat16",
        ),
        high=dict(
            type="TimmConvNeXt",
            model_name="convnext_large_mlp.clip_laion2b_ft_soup_320",
            checkpoint_path="pretrained/convnext_large_mlp.clip_laion2b_ft_soup_320.bin",
        ),
        image_size=768,
    ),
    connector=dict(
        type="FusedConnector",
        fuser=dict(type="PatchInfoMiningFuser", select_layers=[-2]),
        projector=dict(type="MLPConnector", depth=2, act="gelu"),
    ),
    language_model=dict(
        type="HFCausalLM",
        name_or_path="lmsys/vicuna-7b-v1.5",
        config=dict(
            model_type="llama",
            vocab_size=32000,
            hidden_size=4096,
            intermediate_size=11008,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=32,
            max_position_embeddings=4096,
            rms_norm_eps=1e-5,
            tie_word_embeddings=False,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        ),
        torch_dtype="bfloat16",
        gradient_checkpointing="all",
    ),
    generation=dict(max_new_tokens=128, do_sample=False),
)
tokenizer = dict(
    type="HFTokenizer", name_or_path="lmsys/vicuna-7b-v1.5", use_fast=False
)
