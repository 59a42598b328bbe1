"""Tiny Mini-Gemini: a tiny CLIP mines a tiny ConvNeXt."""

tiny_root = "data/tiny_scenes"
tokenizer = dict(type="HFTokenizer", name_or_path=tiny_root + "/tokenizer")
chat_template = dict(type="vicuna_v1", system="")
model = dict(
    type="VisionLanguageModel",
    vision_encoder=dict(
        type="DualVisionEncoder",
        low=dict(
            type="HFVisionEncoder",
            config=dict(
                model_type="clip_vision_model",
                hidden_size=128,
                intermediate_size=512,
                num_hidden_layers=4,
                num_attention_heads=4,
                image_size=48,
                patch_size=12,
                attn_implementation="eager",
            ),
        ),
        high=dict(
            type="TimmConvNeXt",
            model_name="convnext_atto",
            depths=(1, 1, 1, 1),
            dims=(16, 24, 32, 48),
        ),
        image_size=64,
    ),
    connector=dict(
        type="FusedConnector",
        fuser=dict(type="PatchInfoMiningFuser", select_layers=[-2]),
        projector=dict(type="MLPConnector", depth=2, act="gelu"),
    ),
    language_model=dict(
        type="HFCausalLM",
        config=dict(
            model_type="llama",
            vocab_size=640,
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=False,
            initializer_range=0.06,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        ),
        attention="batched",
    ),
    generation=dict(max_new_tokens=64, do_sample=False),
)
