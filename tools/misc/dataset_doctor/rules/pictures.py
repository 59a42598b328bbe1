"""Whether images are there, whole, and as large as the file says."""

from __future__ import annotations

from collections.abc import Iterable

from dataset_doctor.rule import Rule, rule
from dataset_doctor.specimen import Specimen, digest_of


@rule
class Pictures(Rule):
    """Every image decodes (in a fast walk: opens)."""

    name = "pictures"
    order = 10
    claims = r"^image (path )?'"

    def check(self, specimen: Specimen) -> Iterable[str]:
        """Yield why an image cannot be used."""
        for picture in specimen.pictures:
            if picture.reason is not None:
                yield picture.reason


@rule
class PictureSize(Rule):
    """Boxes are given in the frame of the image that lies on disk."""

    name = "picture size"
    order = 12

    def check(self, specimen: Specimen) -> Iterable[str]:
        """Yield where a region's frame is not its image's."""
        claimed = {(r.image, tuple(r.boxes.size)) for r in specimen.regions}
        if specimen.annotation is not None and specimen.annotation.size is not None:
            claimed.add((0, tuple(specimen.annotation.size)))
        for image, size in sorted(claimed):
            found = specimen.size_of(image)
            if found is not None and tuple(found) != size:
                yield (
                    f"annotated as {size[1]} x {size[0]} pixels, but "
                    f"'{specimen.pictures[image].name}' has {found[1]} x {found[0]}."
                )


@rule
class SamePicture(Rule):
    """One image under two names: it may be in training and test sets."""

    name = "same picture"
    level = "warning"
    order = 72
    shared = "a picture, under another name,"

    def keys(self, specimen: Specimen) -> Iterable[tuple[int, int]]:
        """Yield the content's hash, owned by the image's path."""
        for picture in specimen.pictures:
            if picture.digest is not None:
                yield picture.digest, digest_of(picture.name)
