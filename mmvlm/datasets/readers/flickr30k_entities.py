"""Reader of Flickr30k Entities: captions whose phrases have boxes."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from typing import Any, ClassVar
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from mmengine.logging import print_log

from mmvlm.datasets.annotated import AnnotatedImageDataset, damaged
from mmvlm.datasets.io.annotation_files import InstanceList
from mmvlm.registry import DATASETS
from mmvlm.structures import AnnotatedImage, Caption, Span

PER = ("sentence", "image")
BOXES = ("separate", "merged")
_ID = re.compile(r"\w[\w-]*")


@DATASETS.register_module()
class Flickr30kEntitiesDataset(AnnotatedImageDataset):
    """Captions of Flickr30k with the boxes of what their phrases name.

    The folder is the authors' archive, images apart::

        train.txt, val.txt, test.txt       # ids of images, one per line
        Sentences/1000092795.txt           # five captions, one per line
        Annotations/1000092795.xml         # boxes of entities
        flickr30k-images/1000092795.jpg

    A caption is ``[/EN#1/people Two young guys] look at [/EN#3/bodyparts their hands]
    .``: entity 1 of the type ``people``, whose boxes the XML file lists. An entity has
    no box, one or several; a box may belong to several entities. Phrases without a
    box (``scene``, ``nobndbox``, ``notvisual``) stay in the caption as spans without
    instances.

    XML is read without document types and entities, which can be made to fill the
    memory.

    Source: github.com/BryanPlummer/flickr30k_entities. Paper: Plummer et al.,
    "Flickr30k Entities", ICCV 2015, arXiv 1505.04870.

    Args:
        ann_file (str): ``train.txt``, ``val.txt`` or ``test.txt``, beside the folders.
        per (str): a sample per ``sentence``, or per ``image`` with all its captions.
        boxes (str): ``separate``, or ``merged``: one box around all of an entity.
        minus_one (bool): take 1 from all coordinates, as Shikra does; the recall
            evaluator of Ferret and MDETR keeps them.
        grounded_only (bool): leave out sentences without a boxed phrase (their
            number is logged when the rows are made), as evaluators do. Otherwise
            they are captions like others.
        image_suffix (str): of the images.
        **kwargs: see :class:`AnnotatedImageDataset`. ``image_prefix`` is the folder
            of the images.

    Raises:
        ValueError: for an unknown option, or a split file that is no list of ids.
    """

    default_task: ClassVar[dict] = dict(type="PhraseGrounding")

    def __init__(
        self,
        ann_file: str,
        *,
        per: str = "sentence",
        boxes: str = "separate",
        minus_one: bool = False,
        grounded_only: bool = True,
        image_suffix: str = ".jpg",
        **kwargs: Any,
    ) -> None:
        if per not in PER or boxes not in BOXES:
            raise ValueError(
                f"per={per!r}, boxes={boxes!r}: expected one of {PER} and one of "
                f"{BOXES}."
            )
        self.per = per
        self.boxes = boxes
        self.minus_one = minus_one
        self.grounded_only = grounded_only
        self.image_suffix = image_suffix
        super().__init__(ann_file, **kwargs)

    def _row_options(self) -> dict:
        return dict(
            per=self.per,
            grounded_only=self.grounded_only,
            image_suffix=self.image_suffix,
            files=self._state(),
        )

    def _state(self) -> str:
        """Return a hash of sizes and times of all files: 64 thousand, in a moment."""
        digest = hashlib.sha256()
        for path in (path for _, *pair in self._files() for path in pair):
            try:
                facts = os.stat(path)
                digest.update(f"{facts.st_size} {facts.st_mtime_ns}\n".encode())
            except OSError:
                digest.update(b"missing\n")
        return digest.hexdigest()

    def _files(self) -> list[tuple[str, str, str]]:
        """Return (id, sentences, annotations) of every image of the split."""
        try:
            with open(self.ann_file, encoding="utf-8-sig") as file:
                ids = file.read().split()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"split file '{self.ann_file}' is not UTF-8 text: {error}."
            ) from error
        wrong = [name for name in ids if not _ID.fullmatch(name)]
        if wrong or not ids:
            raise ValueError(
                f"split file '{self.ann_file}' is no list of image ids, one per "
                f"line; it holds {wrong[:1] or 'nothing'!r:.60}."
            )
        folder = os.path.dirname(self.ann_file)
        return [
            (
                name,
                os.path.join(folder, "Sentences", f"{name}.txt"),
                os.path.join(folder, "Annotations", f"{name}.xml"),
            )
            for name in ids
        ]

    def _flatten(self) -> Iterator[dict]:
        bare = 0
        for name, sentences_file, annotation_file in self._files():
            try:
                facts = read_annotation(annotation_file)
                sentences = read_sentences(sentences_file)
            except (ValueError, OSError) as error:
                yield damaged(name, str(error))
                continue
            known = {one for thing in facts["objects"] for one in thing["names"]}
            rows = []
            for number, sentence in enumerate(sentences):
                ids = {phrase["phrase_id"] for phrase in sentence["phrases"]}
                if self.grounded_only and not ids & known:
                    bare += 1
                    continue
                rows.append({**sentence, "sentence_id": number})
            groups = [[row] for row in rows] if self.per == "sentence" else [rows]
            for group in filter(None, groups):
                end = f"#{group[0]['sentence_id']}" if self.per == "sentence" else ""
                yield dict(
                    id=f"{name}{end}",
                    image=f"{name}{self.image_suffix}",
                    width=facts["width"],
                    height=facts["height"],
                    image_id=name,
                    sentences=group,
                    objects=self._mentioned(facts["objects"], group),
                )
        if bare:
            print_log(
                f"dataset '{self.name}': {bare} sentences without a boxed phrase are "
                "left out (grounded_only).",
                logger="current",
                level=logging.INFO,
            )

    def _mentioned(self, objects: list[dict], sentences: list[dict]) -> list[dict]:
        """Return the objects that the sentences name; of a whole image, all."""
        if self.per == "image":
            return objects
        ids = {p["phrase_id"] for s in sentences for p in s["phrases"]}
        return [thing for thing in objects if ids & set(thing["names"])]

    def _annotation(self, row: dict, size: tuple[int, int] | None) -> AnnotatedImage:
        instances = InstanceList(size, keep=self.evaluate)
        of_entity: dict[str, list[int]] = {}
        for names, box in self._grouped(row["objects"]):
            index = instances.add(box, id=",".join(names))
            for name in names if index is not None else ():
                of_entity.setdefault(name, []).append(index)
        captions = []
        for sentence in row["sentences"]:
            spans = [
                Span(
                    phrase["start"],
                    phrase["start"] + len(phrase["phrase"]),
                    tuple(of_entity.get(phrase["phrase_id"], ())),
                    tuple(phrase["phrase_type"]),
                )
                for phrase in sentence["phrases"]
            ]
            captions.append(Caption(sentence["sentence"], tuple(spans)))
        meta = dict(
            image_id=row["image_id"],
            sentence_ids=[sentence["sentence_id"] for sentence in row["sentences"]],
            **instances.meta,
        )
        return AnnotatedImage(
            row["image"],
            size,
            tuple(instances.items),
            captions=tuple(captions),
            id=row["id"],
            meta=meta,
        )

    def _grouped(self, objects: list[dict]) -> Iterator[tuple[list[str], list]]:
        """Yield entities and their box, as ``boxes`` and ``minus_one`` want it."""
        shift = int(self.minus_one)
        moved = [
            (thing["names"], [value - shift for value in thing["box"]])
            for thing in objects
        ]
        if self.boxes == "separate":
            yield from moved
            return
        entities: dict[str, list] = {}
        for names, box in moved:
            for name in names:
                entities.setdefault(name, []).append(box)
        for name, boxes in entities.items():
            low, high = zip(*boxes, strict=True), zip(*boxes, strict=True)
            corners = [min(c) for c in low][:2] + [max(c) for c in high][2:]
            yield [name], corners


def parse_sentence(line: str) -> dict:
    """Return a caption's text and phrases.

    Returns:
        dict: ``sentence`` without marks, and ``phrases``: ``phrase``, ``phrase_id``,
        ``phrase_type`` (list), ``first_word_index``, and ``start``, its first
        character in the sentence.

    Raises:
        ValueError: for marks that are not whole.

    Example:
        >>> found = parse_sentence("[/EN#1/people A man] in [/EN#2/scene the yard] .")
        >>> found["sentence"], found["phrases"][1]["phrase_id"]
        ('A man in the yard .', '2')
    """
    words: list[str] = []
    phrases: list[dict] = []
    current: dict | None = None
    for token in line.split():
        if token.startswith("["):
            fields = token[1:].split("/")
            marked = len(fields) >= 3 and fields[1].startswith("EN#")
            if current is not None or not marked:
                raise ValueError(f"'{token:.60}' opens no phrase in {line!r:.120}.")
            current = dict(
                first_word_index=len(words),
                phrase="",
                phrase_id=fields[1].removeprefix("EN#"),
                phrase_type=fields[2:],
                start=sum(map(len, words)) + len(words),
            )
            continue
        word = token
        if current is not None and token.endswith("]"):
            word = token[:-1]
        words.append(word)
        if word is not token and current is not None:
            current["phrase"] = " ".join(words[current["first_word_index"] :])
            phrases.append(current)
            current = None
    if current is not None:
        raise ValueError(f"a phrase of {line!r:.120} is not closed.")
    return dict(sentence=" ".join(words), phrases=phrases)


def read_sentences(path: str) -> list[dict]:
    """Return :func:`parse_sentence` of every line that is not blank.

    Raises:
        ValueError: naming file and line.
        OSError: when there is no such file.
    """
    found = []
    with open(path, encoding="utf-8-sig") as file:
        try:
            lines = file.read().split("\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"'{path}' is not UTF-8 text: {error}.") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(parse_sentence(line))
            except ValueError as error:
                raise ValueError(f"'{path}', line {number}: {error}") from error
    return found


def read_annotation(path: str) -> dict:
    """Return what the XML file of an image says.

    Returns:
        dict: ``width``, ``height``, ``depth``; ``objects``: boxes with the ids of
        their entities (``names``, ``box``); ``nobox`` and ``scene``: ids of entities
        marked so.

    Raises:
        ValueError: naming the file.
        OSError: when there is no such file.
    """
    with open(path, "rb") as file:
        data = file.read()
    try:
        root = _parse_xml(data)
        size = root.find("size")
        facts = {name: _number(size, name) for name in ("width", "height", "depth")}
        objects, marked = [], dict(nobox=[], scene=[])
        for element in root.iter("object"):
            names = [(name.text or "").strip() for name in element.findall("name")]
            if not all(names) or not names:
                raise ValueError("an 'object' has no 'name'")
            bounds = element.find("bndbox")
            if bounds is not None:
                corners = ("xmin", "ymin", "xmax", "ymax")
                box = [_number(bounds, corner) for corner in corners]
                objects.append(dict(names=names, box=box))
                continue
            for field, key in (("nobndbox", "nobox"), ("scene", "scene")):
                if element.find(field) is not None and _number(element, field):
                    marked[key] += names
    except (ValueError, expat.ExpatError) as error:
        raise ValueError(f"annotation file '{path}': {error}.") from error
    return {**facts, "objects": objects, **marked}


def boxes_by_entity(objects: list[dict]) -> dict[str, list]:
    """Return the boxes of every entity, in the file's order."""
    found: dict[str, list] = {}
    for thing in objects:
        for name in thing["names"]:
            found.setdefault(name, []).append(thing["box"])
    return found


def _parse_xml(data: bytes) -> Element:
    builder = TreeBuilder()
    parser = expat.ParserCreate()

    def refuse(*_: Any) -> None:
        raise ValueError("it declares a document type, which is not read")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.Parse(data, True)
    return builder.close()


def _number(element: Element | None, name: str) -> int | float:
    text = None if element is None else element.findtext(name)
    try:
        value = float(text)
    except (TypeError, ValueError) as error:
        raise ValueError(f"'{name}' must be a number, got {text!r:.40}") from error
    return int(value) if value.is_integer() else value
