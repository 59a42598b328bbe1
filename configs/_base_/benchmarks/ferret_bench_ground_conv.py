"""Ferret-Bench ground_conv: a judge rates answers against references."""

_base_ = "llava_bench_wild.py"
benchmark = dict(
    name="ferret_bench_ground_conv",
    title="Ferret-Bench ground_conv",
    source="You et al., ICLR 2024; apple/ml-ferret",
    dataset=dict(
        data_root="data/ferret_bench/ground_conv",
        ann_file="question.jsonl",
        answer_file="answer.jsonl",
    ),
    scorer=dict(ferret=True),
    num_items=40,
)
