"""SigLIP-so400m/14 at 384 px, 2-layer MLP, Qwen2.5-7B-Instruct."""

model = dict(
    type="VisionLanguageModel",
    vision_encoder=dict(
        type="HFVisionEncoder",
        name_or_path="google/siglip-so400m-patch14-384",
        config=dict(
            model_type="siglip_vision_model",
            hidden_size=1152,
            intermediate_size=4304,
            num_hidden_layers=27,
            num_attention_heads=16,
            image_size=384,
            patch_size=14,
            hidden_act="gelu_pytorch_tanh",
            layer_norm_eps=1e-6,
        ),
        torch_dtype="bfloat16",
    ),
    connector=dict(type="MLPConnector", depth=2, act="gelu", select_layers=[-2]),
    language_model=dict(
        type="HFCausalLM",
        name_or_path="Qwen/Qwen2.5-7B-Instruct",
        config=dict(
            model_type="qwen2",
            vocab_size=152064,
            hidden_size=3584,
            intermediate_size=18944,
            num_hidden_layers=28,
            num_attention_heads=28,
            num_key_value_heads=4,
            max_position_embeddings=32768,
            rms_norm_eps=1e-6,
            rope_theta=1000000.0,
            tie_word_embeddings=False,
            bos_token_id=151643,
            eos_token_id=151645,
        ),
        torch_dtype="bfloat16",
        gradient_checkpointing="all",
    ),
    generation=dict(max_new_tokens=128, do_sample=False),
)
tokenizer = dict(type="HFTokenizer", name_or_path="Qwen/Qwen2.5-7B-Instruct")
