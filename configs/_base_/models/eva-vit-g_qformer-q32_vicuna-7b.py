"""EVA-ViT-g/14 of BLIP-2 at 224 px, Q-Former with 32 queries, Vicuna-7B.

The tower is read from a folder of transformers' BLIP-2 (any of the ViT-g family holds
the same one); the Q-Former comes from tools/model_converters/from_qformer.py.
"""

model = dict(
    type="VisionLanguageModel",
    vision_encoder=dict(
        type="HFVisionEncoder",
        name_or_path="pretrained/blip2-flan-t5-xxl",
        config=dict(
            model_type="blip_2_vision_model",
            hidden_size=1408,
            intermediate_size=6144,
            num_hidden_layers=39,
            num_attention_heads=16,
            image_size=224,
            patch_size=14,
            hidden_act="gelu",
            layer_norm_eps=1e-6,
            qkv_bias=True,
        ),
        torch_dtype="bfloat16",
    ),
    connector=dict(type="QFormerConnector", num_queries=32, select_layers=[-1]),
    language_model=dict(
        type="HFCausalLM",
        name_or_path="lmsys/vicuna-7b-v1.1",
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
    ),
    generation=dict(max_new_tokens=256, do_sample=False),
)
tokenizer = dict(
    type="HFTokenizer", name_or_path="lmsys/vicuna-7b-v1.1", use_fast=False
)
