_base_ = [
    "../../../../configs/inf_llava/inf-llava-clip-l14-336_dual-n2_llama3-8b_8xb8-1e-ft_llava-665k.py"
]

model = dict(
    language_model=dict(lora=dict(r=16, alpha=32)),
    train_parts=dict(_delete_=True, vision_encoder=False, connector=True),
)
