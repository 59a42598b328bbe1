"""SEED-Bench, images only (SEED-IMG)."""

_base_ = "seed.py"
benchmark = dict(
    name="seed_img",
    title="SEED-IMG",
    split="image",
    dataset=dict(data_type="image"),
    num_items=14233,
    submission=None,
)
