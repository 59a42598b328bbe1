"""The benchmarks of LLaVA-1.5's table: Liu et al., arXiv 2310.03744."""

benchmarks = [
    *("vqav2_testdev", "gqa", "vizwiz_test", "scienceqa_img", "textvqa_ocr"),
    *("pope", "mme", "mmbench", "mmbench_cn", "seed", "llava_bench_wild", "mm_vet"),
]
