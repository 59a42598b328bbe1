"""LLaVA-1.5 13B: CLIP ViT-L/14 at 336 px, 2-layer MLP, Vicuna-13B v1.5."""

_base_ = "../vision_encoders/clip-l14-336.py"

model = dict(
    type="VisionLanguageModel",
    vision_encoder=_base_.vision_encoder,
    connector=dict(type="MLPConnector", depth=2, act="gelu", select_layers=[-2]),
    language_model=dict(
        type="HFCausalLM",
        name_or_path="lmsys/vicuna-13b-v1.5",
        config=dict(
            model_type="llama",
            vocab_size=32000,
            hidden_size=5120,
            intermediate_size=13824,
            num_hidden_layers=40,
            num_attention_heads=40,
            num_key_value_heads=40,
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
    type="HFTokenizer", name_or_path="lmsys/vicuna-13b-v1.5", use_fast=False
)
