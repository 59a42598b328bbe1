"""Emu: EVA-CLIP-g/14 at 224 px, C-Former with 32 queries, Llama-13B."""

model = dict(
    type="VisionLanguageModel",
    vision_encoder=dict(
        type="HFVisionEncoder",
        name_or_path="pretrained/eva-clip-g",
        config=dict(
            model_type="blip_2_vision_model",
            hidden_size=1408,
            intermediate_size=6144,
            num_hidden_layers=40,
            num_attention_heads=16,
            image_size=224,
            patch_size=14,
            hidden_act="gelu",
            layer_norm_eps=1e-6,
            qkv_bias=True,
        ),
        torch_dtype="bfloat16",
        gradient_checkpointing="all",
    ),
    connector=dict(type="CausalFormerConnector", num_queries=32, select_layers=[-1]),
    language_model=dict(
        type="HFCausalLM",
        name_or_path="huggyllama/llama-13b",
        config=dict(
            model_type="llama",
            vocab_size=32000,
            hidden_size=5120,
            intermediate_size=13824,
            num_hidden_layers=40,
            num_attention_heads=40,
            num_key_value_heads=40,
            max_position_embeddings=2048,
            rms_norm_eps=1e-6,
            tie_word_embeddings=False,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        ),
        torch_dtype="bfloat16",
        gradient_checkpointing="all",
        new_tokens=dict(
            tokens=["[PAD]", "[IMG]", "[/IMG]", "<image>", "[USER]", "[ASSISTANT]"],
            train=None,
        ),
    ),
    heads=dict(head=dict(type="VisualRegressionHead", weight=1.0)),
    generation=dict(max_new_tokens=128, do_sample=False),
)
tokenizer = dict(
    type="HFTokenizer",
    name_or_path="huggyllama/llama-13b",
    use_fast=False,
)
