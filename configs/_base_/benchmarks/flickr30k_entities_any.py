"""Flickr30k Entities test: phrases against each of their boxes."""

_base_ = "flickr30k_entities_merged.py"
benchmark = dict(
    name="flickr30k_entities_any",
    variant="any box",
    scorer=dict(rule="any"),
)
