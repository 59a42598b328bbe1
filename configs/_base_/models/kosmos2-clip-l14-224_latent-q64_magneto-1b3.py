"""Kosmos-2: CLIP ViT-L/14 at 224 px behind its last norm, 64 latents, a 1.3 B decoder.

Images are stretched to a square. Vocabulary and ids are those of the released model:
tags of phrases and boxes from 64007 on, the 32 x 32 cells from 64013 on.
"""

model = dict(
    type="VisionLanguageModel",
    vision_encoder=dict(
        type="HFVisionEncoder",
        final_norm=True,
        random_init=True,
        config=dict(
            model_type="clip_vision_model",
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
            image_size=224,
            patch_size=14,
            hidden_act="quick_gelu",
        ),
    ),
    connector=dict(
        type="LatentAttentionConnector", num_queries=64, heads=32, random_init=True
    ),
    language_model=dict(
        type="Kosmos2LM",
        random_init=True,
        config=dict(
            model_type="kosmos_2_text_model",
            vocab_size=65037,
            embed_dim=2048,
            ffn_dim=8192,
            layers=24,
            attention_heads=32,
            max_position_embeddings=2048,
            dropout=0.1,
            attention_dropout=0.1,
            activation_dropout=0.0,
            bos_token_id=0,
            pad_token_id=1,
            eos_token_id=2,
        ),
        gradient_checkpointing="all",
    ),
    train_parts=dict(vision_encoder=True, connector=True, language_model=True),
    generation=dict(max_new_tokens=128, do_sample=False),
)
tokenizer = dict(type="HFTokenizer", name_or_path="microsoft/kosmos-2-patch14-224")
chat_template = dict(
    type="plain",
    end_mark="</s>",
    image_prefix="<image>",
    image_suffix="</image>",
    frame_question=True,
)
processor = dict(
    views=dict(type="ResizeSquare", resample="bicubic"),
    codec=dict(type="Kosmos2Codec"),
    max_length=2048,
    overflow="truncate_text",
    load_images=dict(any_suffix=True),
)
