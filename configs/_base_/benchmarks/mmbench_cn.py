"""MMBench dev in Chinese, circular."""

_base_ = "mmbench.py"
benchmark = dict(
    name="mmbench_cn",
    title="MMBench-CN",
    dataset=dict(
        ann_file="mmbench_dev_cn_20231003.tsv", task=dict(suffix="请直接回答选项字母。")
    ),
    data_version="20231003",
    num_items=None,
)
