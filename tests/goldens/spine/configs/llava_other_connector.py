_base_ = [
    "../../../../configs/llava/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft_llava-665k.py"
]

model = dict(
    connector=dict(
        _delete_=True,
        type="FusedConnector",
        fuser=dict(type="MMFuser", select_layers=[3, 8, 13, 18, 23]),
        projector=dict(type="MLPConnector", depth=2, act="gelu"),
    ),
    train_parts=dict(vision_encoder=dict(_delete_=True, last_blocks=2), connector=True),
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        parts=dict(vision_encoder=dict(lr=2e-6), connector=dict(lr=1e-4))
    )
)
