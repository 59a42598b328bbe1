"""The same, shown by a point."""

_base_ = "lvis_box.py"
benchmark = dict(
    name="lvis_point",
    variant="point",
    dataset=dict(task=dict(kind="point")),
)
