"""A step over 200 samples: masks, questions, texts, two images; new rows learn."""

_base_ = "one_step.py"
masks = dict(_base_.train_dataloader.dataset, indices=80)
steps = _base_.pipeline
without = [dict(step) for step in steps if step["type"] != "SecondImage"]
others = dict(type="LLaVADataset", data_root="data", pipeline=steps, indices=40)
train_dataloader = dict(
    batch_size=200,
    dataset=dict(
        _delete_=True,
        type="MixtureDataset",
        datasets=[
            dict(masks, name="masks"),
            dict(others, name="questions", ann_file="train.json"),
            dict(others, name="texts", ann_file="texts.json", pipeline=without),
            dict(others, name="pairs", ann_file="pairs.json"),
        ],
    ),
)
tokens = dict(tokens=["[SEG]"], train="rows")
model = dict(language_model=dict(new_tokens=tokens))
