_base_ = [
    "../../../../configs/llava/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft-lora_llava-665k.py"
]

chat_template = "vicuna_v1"
model = dict(
    language_model=dict(
        lora=dict(r=32, alpha=64, dropout=0.1), gradient_checkpointing=2
    ),
    train_parts=dict(connector=True, language_model="lora"),
    generation=dict(max_new_tokens=256, do_sample=False),
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImages", exif="apply"),
            dict(type="ResizeSquare", size=336),
            dict(type="EncodeConversation", max_length=1024, overflow="drop"),
            dict(type="PackVLMInputs"),
        ]
    )
)
