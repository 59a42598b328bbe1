"""Ask a model the questions of benchmarks: plan, answer, meet through files."""
