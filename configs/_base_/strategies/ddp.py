"""Every GPU holds the whole model; gradients are averaged."""

strategy = dict(type="VLMDDPStrategy")
