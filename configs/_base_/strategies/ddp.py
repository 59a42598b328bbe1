"""Every GPU holds the whole model; gradients are averaged."""

strategy = dict(type="VLMDDPStrategy", model_wrapper=dict(find_unused_parameters=False))
