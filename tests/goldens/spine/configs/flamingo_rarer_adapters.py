_base_ = [
    "../../../../configs/flamingo/flamingo-clip-l14-224_perceiver_llama-7b_8xb32-1e-pt_llava-558k.py"
]

model = dict(
    connector=dict(num_latents=32),
    language_model=dict(adapters=[dict(type="GatedCrossAttentionAdapter", every=8)]),
)
