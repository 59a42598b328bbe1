"""Reader of Mapillary Vistas' label maps."""

from __future__ import annotations

import json

from mmvlm.registry import DATASETS

from .label_maps import IGNORE, LabelMapDataset


@DATASETS.register_module()
class MapillaryVistasDataset(LabelMapDataset):
    """Mapillary Vistas 2.0: ``<split>/images/*.jpg``, ``<split>/v2.0/labels/*.png``.

    A pixel (a palette image's index) holds the place of its class in the
    configuration's ``labels``; a class is named by its ``readable`` in lower case, as
    LISA does.

    Paper: Neuhold et al., "The Mapillary Vistas Dataset for Semantic Understanding
    of Street Scenes", ICCV 2017.

    Args:
        ann_file (str): ``config_v2.0.json``.
        ignore_unevaluated (bool): ignore classes whose ``evaluate`` is false
            (unlabelled, the ego vehicle). Default: they are asked for, as LISA does.
        **kwargs: see :class:`LabelMapDataset`.

    Raises:
        ValueError: when the configuration has no list ``labels`` of objects with
            ``readable``.
    """

    label_folder = "training/v2.0/labels"

    def __init__(
        self, ann_file: str, *, ignore_unevaluated: bool = False, **kwargs
    ) -> None:
        self.ignore_unevaluated = ignore_unevaluated
        super().__init__(ann_file, **kwargs)

    def _class_names(self) -> list[str]:
        try:
            with open(self.ann_file, encoding="utf-8-sig") as file:
                config = json.load(file)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"configuration '{self.ann_file}' is not valid JSON: {error}."
            ) from error
        labels = config.get("labels") if isinstance(config, dict) else None
        if not isinstance(labels, list) or not all(
            isinstance(label, dict) and isinstance(label.get("readable"), str)
            for label in labels
        ):
            raise ValueError(
                f"configuration '{self.ann_file}': expected 'labels', a list of "
                "objects with 'readable' (config_v2.0.json)."
            )
        self._hidden = [
            number
            for number, label in enumerate(labels)
            if self.ignore_unevaluated and not label.get("evaluate", True)
        ]
        return [label["readable"].lower() for label in labels]

    def _classes(self, label_map):
        if not self._hidden:
            return label_map
        classes = label_map.copy()
        for number in self._hidden:
            classes[label_map == number] = IGNORE
        return classes
