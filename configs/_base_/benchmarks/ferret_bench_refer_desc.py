"""Ferret-Bench refer_desc: a judge rates answers against references."""

_base_ = "llava_bench_wild.py"
benchmark = dict(
    name="ferret_bench_refer_desc",
    title="Ferret-Bench refer_desc",
    source="You et al., ICLR 2024; apple/ml-ferret",
    dataset=dict(
        data_root="data/ferret_bench/refer_caption",
        ann_file="question.jsonl",
        answer_file="answer.jsonl",
    ),
    scorer=dict(ferret=True),
    num_items=40,
)
