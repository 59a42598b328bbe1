"""InfographicVQA val, ANLS."""

_base_ = "docvqa_val.py"
benchmark = dict(
    name="infovqa_val",
    title="InfoVQA",
    source="Mathew et al., WACV 2022; RRC evaluator",
    dataset=dict(
        data_root="data/infovqa",
        ann_file="infographicsvqa_qas/infographicsVQA_val_v1.0_withQT.json",
        image_prefix="infographicsvqa_images",
    ),
    num_items=2801,
)
