"""The model of lmms-eval, against a stand-in of its interface."""

import abc
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mmvlm.apis.lmms_eval as adapter


@dataclass(frozen=True)
class Manifest:
    model_id: str
    simple_class_path: str


class LMMS(abc.ABC):
    is_simple = True

    def __init__(self):
        self.task_dict = {}

    @abc.abstractmethod
    def loglikelihood(self, requests): ...

    @abc.abstractmethod
    def generate_until(self, requests): ...

    @abc.abstractmethod
    def generate_until_multi_round(self, requests): ...


@pytest.fixture
def model(monkeypatch, config_file, checkpoint):
    modules = {
        name: types.ModuleType(name)
        for name in (
            *("lmms_eval", "lmms_eval.api", "lmms_eval.api.model"),
            *("lmms_eval.models", "lmms_eval.models.registry_v2"),
        )
    }
    modules["lmms_eval.api.model"].lmms = LMMS
    modules["lmms_eval.models.registry_v2"].ModelManifest = Manifest
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    adapter._model_class.cache_clear()
    module, _, name = adapter.manifest().simple_class_path.rpartition(".")
    found = getattr(sys.modules[module], name)
    assert issubclass(found, LMMS) and found.is_simple
    yield found(str(config_file), str(checkpoint), "cpu", batch_size="3")
    adapter._model_class.cache_clear()


def request(number, text, settings, images=lambda doc: doc["images"]):
    args = (text, settings, images, number, "task", "test")
    return types.SimpleNamespace(args=args)


def test_replies_are_those_of_a_chat_in_the_order_of_requests(model):
    noise = np.random.default_rng(0)
    docs = [
        dict(images=[Image.fromarray(noise.integers(0, 255, (20, 30, 3), np.uint8))])
        for _ in range(4)
    ] + [dict(images=[])]
    model.task_dict = {"task": {"test": docs}}
    short, long = dict(max_new_tokens=4), dict(max_new_tokens=9, temperature=0.0)
    asked = [(0, "what", short), (1, "is it", short), (2, "this", long), (4, "", long)]
    asked += [(3, "there red", short), (0, "blue", short)]

    replies = model.generate_until([request(n, t or "so", s) for n, t, s in asked])

    assert replies == [
        model.inferencer.chat(
            *(docs[n]["images"] or None, t or "so"),
            max_new_tokens=s["max_new_tokens"],
        )
        for n, t, s in asked
    ]
    (reply,) = model.generate_until([request(0, "what", long)])
    end = reply[2:4]
    settings = dict(long, until=[end, ""])
    assert model.generate_until([request(0, "what", settings)]) == [reply.split(end)[0]]


def test_images_are_decoded_batch_by_batch(model, monkeypatch):
    events = []
    monkeypatch.setattr(
        model, "inferencer", lambda *args, **_: events.append("ask") or args[1]
    )
    model.task_dict = {"task": {"test": [dict(number=n) for n in range(7)]}}

    def images(doc):
        events.append(doc["number"])
        return []

    asked = [request(n, f"q{n}", {}, images) for n in range(7)]

    assert model.generate_until(asked) == [f"q{n}" for n in range(7)]
    assert events == [0, 1, 2, "ask", 3, 4, 5, "ask", 6, "ask"]


def test_what_it_cannot_answer_is_refused(model, monkeypatch, config_file):
    model.task_dict = {"task": {"test": [dict(images=["film.mp4"])]}}
    with pytest.raises(ValueError, match="task 'task', document 0: expected images"):
        model.generate_until([request(0, "what", {})])
    with pytest.raises(NotImplementedError, match="generates"):
        model.loglikelihood([])
    with pytest.raises(NotImplementedError, match="several rounds"):
        model.generate_until_multi_round([])
    for size in ("auto", 0):
        with pytest.raises(ValueError, match=f"batch_size={size!r}: expected 1"):
            type(model)(str(config_file), batch_size=size)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="in one process"):
        type(model)(str(config_file))


def test_lmms_eval_finds_it_among_the_entry_points():
    text = (Path(__file__).parents[2] / "setup.py").read_text()
    place = f"{adapter.__name__}:{adapter.manifest.__name__}"
    assert f'{{"lmms_eval.models": ["mmvlm = {place}"]}}' in text


@pytest.mark.parametrize(
    ("settings", "expected", "ignored"),
    [
        ({}, dict(do_sample=False), []),
        (
            dict(max_new_tokens=16, temperature=0, top_p=1.0, num_beams=1, until=["."]),
            dict(max_new_tokens=16, num_beams=1, do_sample=False),
            [],
        ),
        (
            dict(max_gen_toks=8, temperature=0.5, top_p=0.9, image_aspect_ratio="pad"),
            dict(max_new_tokens=8, temperature=0.5, top_p=0.9, do_sample=True),
            ["image_aspect_ratio"],
        ),
        (dict(do_sample=True), dict(do_sample=True, temperature=1.0), []),
        (dict(do_sample=True, temperature=0, top_k=5), dict(do_sample=False), []),
        (dict(do_sample=False, temperature=0.7), dict(do_sample=False), []),
        (dict(temperature=None), dict(do_sample=False), []),
    ],
)
def test_settings_of_tasks(settings, expected, ignored):
    assert adapter.generation_of(settings) == (expected, ignored)
