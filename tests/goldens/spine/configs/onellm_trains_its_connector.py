_base_ = [
    "../../../../configs/onellm/onellm-clip-l14-224_upm-e3_llama2-7b_8xb4-1e-ft_onellm-2m.py"
]

model = dict(
    train_parts=dict(vision_encoder=False, connector=True, language_model=False)
)
optim_wrapper = dict(optimizer=dict(lr=5e-6))
