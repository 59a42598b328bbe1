_base_ = [
    "../../../../configs/instructblip/instructblip-eva-g-224_qformer-q32_vicuna-7b_16xb8-60k-ft_instructblip-26.py"
]

model = dict(train_parts=dict(vision_encoder=dict(_delete_=True, last_blocks=1)))
