"""Tiny Multimodal-GPT: LoRA in a tiny Flamingo, in its cross-attention too.

Reproduces: Multimodal-GPT's adapters in the small. Start from the tiny Flamingo.
Command: tools/train.py configs/tiny/multimodal-gpt-clip-tiny_perceiver_llama-tiny_1xb96-2k-ft-lora_tiny-scenes.py
Hardware: sized for 2 CPU cores.
Expected: not measured.
"""

_base_ = ["./llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py"]

targets = ["q_proj", "k_proj", "v_proj", "o_proj", "to_q", "to_kv", "to_out"]
targets += ["ff.1", "ff.3"]
model = dict(
    connector=dict(
        _delete_=True,
        type="PerceiverResamplerConnector",
        depth=2,
        heads=4,
        dim_head=32,
        num_latents=16,
        select_layers=[-1],
    ),
    language_model=dict(
        adapters=[
            dict(type="GatedCrossAttentionAdapter", every=2, heads=4, dim_head=32)
        ],
        lora=dict(r=16, alpha=16, dropout=0.0, target_modules=targets),
    ),
    train_parts=dict(vision_encoder=False, connector=False, language_model="lora"),
)
flamingo = "work_dirs/flamingo-clip-tiny_perceiver_llama-tiny_1xb96-2k-ft_tiny-scenes"
load_from = [dict(path=flamingo, strict=False)]  # it knows no LoRA
