"""MMBench dev in Chinese, circular."""

_base_ = "mmbench.py"
benchmark = dict(
    name="mmbench_cn",
    title="MMBench-CN",
    dataset=dict(
        ann_file="mmbench_dev_cn_20231003.tsv",
        task=dict(
            suffix="\u8bf7\u76f4\u63a5\u56de\u7b54\u9009\u9879\u5b57\u6bcd\u3002"
        ),
    ),
    data_version="20231003",
    num_items=None,  # no source of this count was found
)
