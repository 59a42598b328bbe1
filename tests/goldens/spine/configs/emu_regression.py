_base_ = [
    "../../../../configs/emu/emu-eva-g-224_cformer-q32_llama-13b_128xb8-10k-pt_emu-mix.py"
]

model = dict(regression_weight=0.5, train_parts=dict(vision_encoder=False, head=True))
