_base_ = [
    "../../../../configs/mini_gemini/mini-gemini-clip-l14-336-convnext-l-768_mining_vicuna-v15-7b_8xb8-1e-ft_mgm-instruct.py"
]

model = dict(connector=dict(projector=dict(depth=3)))
