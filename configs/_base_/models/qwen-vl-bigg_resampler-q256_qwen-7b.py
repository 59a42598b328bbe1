"""Qwen-VL: ViT-bigG/14 without class token, 256-query resampler, Qwen-7B.

The tower keeps the 16 x 16 positions of 224 px and interpolates them; the view
transform says how large the images are. Qwen-7B is what transformers calls qwen2
with as many key as query heads. Weights come by ``load_from`` (see
configs/qwen_vl/README.md); ids of the special tokens are the official ones.
"""

model = dict(
    type="VisionLanguageModel",
    vision_encoder=dict(
        type="TimmVisionEncoder",
        model_name="vit_gigantic_patch14_clip_224",
        class_token=False,
        global_pool="",
        norm_layer="layernorm",  # timm's short name for an eps of 1e-6
        final_norm=False,
    ),
    connector=dict(
        type="ResamplerConnector", grid=16, post_proj="matrix", select_layers=[-1]
    ),
    language_model=dict(
        type="HFCausalLM",
        config=dict(
            model_type="qwen2",
            vocab_size=151936,
            hidden_size=4096,
            intermediate_size=11008,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=32,
            max_position_embeddings=8192,
            rms_norm_eps=1e-6,
            rope_theta=10000.0,
            tie_word_embeddings=False,
            bos_token_id=151643,
            eos_token_id=151643,
        ),
        torch_dtype="bfloat16",
        gradient_checkpointing="all",
    ),
    generation=dict(max_new_tokens=128, do_sample=False),
)
tokenizer = dict(
    type="HFTokenizer",
    name_or_path="Qwen/Qwen1.5-7B",
    additional_special_tokens=[
        *[f"<|extra_{number}|>" for number in range(205)],
        *("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>"),
        *("<img>", "</img>", "<imgpad>"),
    ],
)
