"""CLIP ViT-L/14 at 336 px, 2-layer MLP, Llama-3-8B-Instruct."""

_base_ = "../vision_encoders/clip-l14-336.py"

model = dict(
    type="VisionLanguageModel",
    vision_encoder=_base_.vision_encoder,
    connector=dict(type="MLPConnector", depth=2, act="gelu", select_layers=[-2]),
    language_model=dict(
        type="HFCausalLM",
        name_or_path="meta-llama/Meta-Llama-3-8B-Instruct",
        config=dict(
            model_type="llama",
            vocab_size=128256,
            hidden_size=4096,
            intermediate_size=14336,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
            max_position_embeddings=8192,
            rms_norm_eps=1e-5,
            rope_theta=500000.0,
            tie_word_embeddings=False,
            bos_token_id=128000,
            eos_token_id=128009,
        ),
        torch_dtype="bfloat16",
        gradient_checkpointing="all",
    ),
    generation=dict(max_new_tokens=128, do_sample=False),
)
tokenizer = dict(type="HFTokenizer", name_or_path="meta-llama/Meta-Llama-3-8B-Instruct")
