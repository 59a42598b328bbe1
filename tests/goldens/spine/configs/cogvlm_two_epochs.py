_base_ = [
    "../../../../configs/cogvlm/cogvlm-eva2-e14-490_glu_vicuna-v15-7b_8xb16-1e-ft_llava-665k.py"
]

train_cfg = dict(max_epochs=2)
