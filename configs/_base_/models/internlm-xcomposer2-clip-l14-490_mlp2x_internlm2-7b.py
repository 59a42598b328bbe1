"""InternLM-XComposer2: CLIP ViT-L/14 at 490 px, 2-layer MLP, InternLM2-7B with PLoRA.

InternLM2's weights in Llama's layout (the authors' convert2llama tool), so that
no code of the hub runs; query, key and value share PLoRA's matrix A, as their one
matrix does in the original.
"""

_base_ = "../vision_encoders/clip-l14-336.py"

model = dict(
    type="VisionLanguageModel",
    vision_encoder=_base_.vision_encoder,
    connector=dict(type="MLPConnector", depth=2, act="gelu", select_layers=[-1]),
    language_model=dict(
        type="HFCausalLM",
        name_or_path="work_dirs/internlm2-chat-7b-llama",
        config=dict(
            model_type="llama",
            vocab_size=92544,
            hidden_size=4096,
            intermediate_size=14336,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
            max_position_embeddings=32768,
            rms_norm_eps=1e-5,
            rope_theta=1000000.0,
            tie_word_embeddings=False,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=2,
        ),
        torch_dtype="bfloat16",
        gradient_checkpointing="all",
        adapters=[dict(type="PLoRAAdapter", r=256, alpha=256, dropout=0.05)],
    ),
    generation=dict(max_new_tokens=128, do_sample=False),
)
tokenizer = dict(type="HFTokenizer", name_or_path="work_dirs/internlm2-chat-7b-llama")
