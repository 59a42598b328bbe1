"""The same, shown by its pixels: the whole mask, where Ferret draws strokes in it."""

_base_ = "lvis_box.py"
benchmark = dict(
    name="lvis_free_form",
    variant="free form",
    dataset=dict(task=dict(kind="mask")),
)
