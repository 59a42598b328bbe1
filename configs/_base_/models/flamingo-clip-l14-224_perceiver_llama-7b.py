"""OpenFlamingo-9B: CLIP ViT-L/14, perceiver resampler, cross-attention in LLaMA-7B."""

model = dict(
    type="VisionLanguageModel",
    vision_encoder=dict(
        type="HFVisionEncoder",
        name_or_path="openai/clip-vit-large-patch14",
        config=dict(
            model_type="clip_vision_model",
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
            image_size=224,
            patch_size=14,
            hidden_act="quick_gelu",
            projection_dim=768,
        ),
        torch_dtype="bfloat16",
    ),
    connector=dict(
        type="PerceiverResamplerConnector",
        depth=6,
        heads=8,
        dim_head=64,
        num_latents=64,
        select_layers=[-1],
    ),
    language_model=dict(
        type="HFCausalLM",
        name_or_path="huggyllama/llama-7b",
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
        adapters=[dict(type="GatedCrossAttentionAdapter", every=4)],
    ),
    generation=dict(max_new_tokens=128, do_sample=False),
)
tokenizer = dict(type="HFTokenizer", name_or_path="huggyllama/llama-7b", use_fast=False)
