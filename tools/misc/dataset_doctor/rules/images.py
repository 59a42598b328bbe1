"""Whether images are there, whole, and as large as the file says."""

from __future__ import annotations

from collections.abc import Iterable

from dataset_doctor.rule import Rule, rule
from dataset_doctor.specimen import Specimen, digest_of


@rule
class Images(Rule):
    """Every image decodes (in a fast walk: opens)."""

    name = "images"
    order = 10
    claims = r"^image (path )?'"

    def check(self, specimen: Specimen) -> Iterable[str]:
        """Yield why an image cannot be used."""
        for image in specimen.images:
            if image.reason is not None:
                yield image.reason


@rule
class ImageSize(Rule):
    """Boxes are given in the frame of the image that lies on disk."""

    name = "image size"
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
                    f"'{specimen.images[image].name}' has {found[1]} x {found[0]}."
                )


@rule
class SameImage(Rule):
    """One image under two names: it may be in training and test sets."""

    name = "same image"
    level = "warning"
    order = 72
    shared = "an image, under another name,"

    def keys(self, specimen: Specimen) -> Iterable[tuple[int, int]]:
        """Yield the content's hash, owned by the image's path."""
        for image in specimen.images:
            if image.digest is not None:
                yield image.digest, digest_of(image.name)
