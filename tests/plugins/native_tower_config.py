"""Images at their own sizes; positions in time, height and width in the decoder."""

_base_ = "base.py"
custom_imports = dict(imports="native_tower")
tower = dict(depth=2, num_heads=2, patch_size=4, embed_dim=32, mlp_ratio=2)
decoder = dict(
    _delete_=True, model_type="qwen2_vl_text", vocab_size=640, hidden_size=128
)
decoder.update(intermediate_size=256, num_hidden_layers=2, num_attention_heads=4)
rope = dict(type="mrope", mrope_section=[4, 6, 6])
decoder.update(num_key_value_heads=2, rope_scaling=rope)
encoder = dict(type="QwenTower", random_init=True, config=dict(tower, hidden_size=96))
model = dict(
    vision_encoder=dict(_delete_=True, **encoder),
    connector=dict(_delete_=True, type="NativeResolutionConnector"),
    language_model=dict(config=decoder),
)
pipeline = [
    dict(type="LoadImages"),
    dict(type="DrawnShape"),
    dict(type="NativeResolution", min_pixels=64),
    dict(type="EncodeConversation"),
    dict(type="AddAxisPositions"),
    dict(type="PackVLMInputs"),
]
llava = dict(type="LLaVADataset", data_root="data", ann_file="train.json")
data = dict(llava, _delete_=True, indices=16, pipeline=pipeline)
train_dataloader = dict(dataset=data)
