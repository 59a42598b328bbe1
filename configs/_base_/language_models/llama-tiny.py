"""A Llama of four layers, 128 wide, and the tokenizer of TinyScenes.

Batched attention: for so few tokens it is the fastest on CPUs.
"""

tiny_root = "data/tiny_scenes"
tokenizer = dict(type="HFTokenizer", name_or_path=tiny_root + "/tokenizer")
chat_template = dict(type="vicuna_v1", system="")
model = dict(
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
