"""OneLLM 7B: CLIP ViT-L/14 for every modality, 3 projection experts, Llama 2."""

_base_ = "../vision_encoders/clip-l14-224.py"

model = dict(
    type="VisionLanguageModel",
    vision_encoder=dict(
        type="UniversalEncoder",
        encoder=_base_.vision_encoder,
        tokenizers=dict(
            video=dict(type="FramesTokenizer", num_frames=15),
            audio=dict(type="SpectrogramTokenizer"),
            point=dict(type="PointCloudTokenizer"),
            rgbd=dict(type="FramesTokenizer", num_frames=2),
            rgbn=dict(type="FramesTokenizer", num_frames=2),
            imu=dict(type="TimeSeriesTokenizer"),
            fmri=dict(type="VectorTokenizer"),
        ),
    ),
    connector=dict(
        type="UniversalProjectionConnector",
        modalities=[
            *("image", "video", "audio", "point"),
            *("rgbd", "rgbn", "imu", "fmri"),
        ],
        num_experts=3,
        num_layers=8,
        num_heads=16,
        num_tokens=30,
        router="soft_sigmoid",
    ),
    language_model=dict(
        type="HFCausalLM",
        name_or_path="meta-llama/Llama-2-7b-hf",
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
    ),
    generation=dict(max_new_tokens=128, do_sample=False),
)
tokenizer = dict(
    type="HFTokenizer", name_or_path="meta-llama/Llama-2-7b-hf", use_fast=False
)
