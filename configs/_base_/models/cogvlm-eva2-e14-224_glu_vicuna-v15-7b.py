"""CogVLM-17B: EVA2-CLIP-E at 224 px, GLU connector, visual experts in Vicuna-7B v1.5."""

model = dict(
    type="VisionLanguageModel",
    vision_encoder=dict(
        type="TimmVisionEncoder", model_name="eva02_enormous_patch14_clip_224"
    ),
    # CogVLM takes off the tower's last layer.
    connector=dict(type="GLUConnector", hidden_width=11008, select_layers=[-2]),
    language_model=dict(
        type="HFCausalLM",
        name_or_path="lmsys/vicuna-7b-v1.5",
        config=dict(
            model_type="llama",
            vocab_size=32000,
            hidden_size=4096,
            intermediate_size=11008,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=32,
            max_position_embeddings=4096,
            rms_norm_eps=1e-5,
            tie_word_embeddings=False,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        ),
        torch_dtype="bfloat16",
        gradient_checkpointing="all",
        adapters=[dict(type="VisualExpertAdapter")],
    ),
    generation=dict(max_new_tokens=128, do_sample=False),
)
tokenizer = dict(
    type="HFTokenizer", name_or_path="lmsys/vicuna-7b-v1.5", use_fast=False
)
