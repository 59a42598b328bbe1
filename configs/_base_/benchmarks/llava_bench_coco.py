"""LLaVA-Bench (COCO): a judge rates answers against references."""

_base_ = "llava_bench_wild.py"
benchmark = dict(
    name="llava_bench_coco",
    title="LLaVA-Bench (COCO)",
    dataset=dict(
        data_root="data/llava-bench-coco",
        ann_file="qa90_questions.jsonl",
        answer_file="qa90_gpt4_answer.jsonl",
        context_file="caps_boxes_coco2014_val_80.jsonl",
    ),
    num_items=90,
)
