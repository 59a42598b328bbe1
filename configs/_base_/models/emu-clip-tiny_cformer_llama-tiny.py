"""An Emu of 1.8 M parameters on the towers of the tiny LLaVA.

The tiny vocabulary has no [IMG]; brackets are the marks around a picture.
"""

tiny_root = "data/tiny_scenes"
tokenizer = dict(type="HFTokenizer", name_or_path=tiny_root + "/tokenizer")
chat_template = dict(type="vicuna_v1", system="", image_prefix="(", image_suffix=")")
model = dict(
    type="VisionLanguageModel",
    vision_encoder=dict(
        type="HFVisionEncoder",
        random_init=True,
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
    connector=dict(
        type="CausalFormerConnector",
        num_queries=16,
        width=128,
        num_layers=3,
        num_heads=4,
        head_width=32,
        intermediate_size=512,
        dropout=0.0,
        select_layers=[-1],
    ),
    heads=dict(head=dict(type="VisualRegressionHead", weight=1.0)),
    language_model=dict(
        type="HFCausalLM",
        random_init=True,
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
