"""CogVLM-17B: EVA2-CLIP-E at 224 px, GLU connector, visual experts in Vicuna-7B v1.5."""

_base_ = "../language_models/vicuna-v15-7b.py"

model = dict(
    type="VisionLanguageModel",
    vision_encoder=dict(
        type="TimmVisionEncoder", model_name="eva02_enormous_patch14_clip_224"
    ),
    # CogVLM takes off the tower's last layer.
    connector=dict(type="GLUConnector", hidden_width=11008, select_layers=[-2]),
    language_model=dict(adapters=[dict(type="VisualExpertAdapter")]),
    generation=dict(max_new_tokens=128, do_sample=False),
)
