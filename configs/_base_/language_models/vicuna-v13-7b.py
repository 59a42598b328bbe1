"""Vicuna-7B v1.3 and its tokenizer."""

model = dict(
    language_model=dict(
        type="HFCausalLM",
        name_or_path="lmsys/vicuna-7b-v1.3",
        config=dict(
            model_type="llama",
            vocab_size=32000,
            hidden_size=4096,
            intermediate_size=11008,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=32,
            max_position_embeddings=2048,
            rms_norm_eps=1e-6,
            tie_word_embeddings=False,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        ),
        torch_dtype="bfloat16",
        gradient_checkpointing="all",
    )
)
tokenizer = dict(
    type="HFTokenizer", name_or_path="lmsys/vicuna-7b-v1.3", use_fast=False
)
