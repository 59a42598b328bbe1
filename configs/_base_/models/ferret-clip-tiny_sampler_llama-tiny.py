"""The tiny LLaVA with Ferret's sampler beside its connector."""

_base_ = "./llava-clip-tiny_mlp2x_llama-tiny.py"

model = dict(
    connectors=dict(
        region_encoder=dict(
            type="FerretSampler",
            num_points=64,
            num_sub_points=[16, 4],
            num_neighbours=[8, 4],
            coord_order="xy",  # nothing released asks for the mirrored places
            select_layers=[-2],
            random_init=True,
        )
    )
)
