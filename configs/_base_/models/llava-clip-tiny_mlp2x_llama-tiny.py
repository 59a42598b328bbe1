"""A LLaVA of 1.9 M parameters: CLIP and Llama of a few layers, 128 wide.

Both towers start from random weights and are pretrained by the configs in
configs/tiny. Batched attention: for so few tokens it is the fastest on CPUs.
"""

tiny_root = "data/tiny_scenes"
tokenizer = dict(type="HFTokenizer", name_or_path=tiny_root + "/tokenizer")
chat_template = dict(type="vicuna_v1", system="")
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
            hidden_act="gelu",  # CLIP's quick_gelu takes six passes on a CPU
            attn_implementation="eager",
        ),
    ),
    connector=dict(type="MLPConnector", depth=2, act="gelu", select_layers=[-2]),
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
            # The usual 0.02 is for wide models: at width 128 attention logits would
            # start near zero and it takes 3 times as many steps to learn to look.
            initializer_range=0.06,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        ),
        attention="batched",
    ),
    generation=dict(max_new_tokens=64, do_sample=False),
)
