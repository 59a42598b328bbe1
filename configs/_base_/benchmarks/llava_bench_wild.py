"""LLaVA-Bench (in the wild): a judge rates answers against references."""

benchmark = dict(
    name="llava_bench_wild",
    title="LLaVA-Bench (in the wild)",
    split="test",
    source="Liu et al., NeurIPS 2023",
    dataset=dict(
        type="LLaVAQuestionsDataset",
        data_root="data/llava-bench-in-the-wild",
        ann_file="questions.jsonl",
        answer_file="answers_gpt4.jsonl",
        context_file="context.jsonl",
        image_prefix="images",
        evaluate=True,
    ),
    generation=dict(max_new_tokens=1024),
    scorer=dict(type="ReviewScorer"),
    headline="all",
    num_items=60,
)
