"""Checks that need more than one value: parts, batch size, files, template."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from mmvlm.datasets.processor import pipelines, processor_config, takes_mode, views_in
from mmvlm.datasets.transforms.compose import Compose

from .parts import part_configs
from .positions import PLAIN_KEYS, UnknownName, names_in, resolve
from .problems import Findings, listing, nearest
from .signatures import wrong_type
from .sources import weight_problems
from .work_dir import resolve_checkpoint

#: Where a config names the dtype of computing.
_PRECISIONS = (
    *("optim_wrapper.dtype", "strategy.mixed_precision"),
    *("val_cfg.dtype", "test_cfg.dtype"),
)


def check_parts(doctor: Findings) -> None:
    """Freezing and learning rates may only name parts that the model has."""
    model = doctor.cfg.get("model") or {}
    parts = list(part_configs(model))
    if not parts:
        return
    paths = ("model.train_parts", "optim_wrapper.paramwise_cfg.parts")
    for path in paths:
        # A learning rate may name a module inside of a part; the optimizer
        # constructor looks it up in the built model.
        nested = path.startswith("optim_wrapper")
        for part in _at(doctor.cfg, path) or {}:
            if (part.partition(".")[0] if nested else part) not in parts:
                doctor.report(
                    f"{path}.{part}",
                    f"the model has no part '{part}'.{nearest(part, parts)} "
                    f"Its parts: {listing(parts)}.",
                )


def _at(cfg: Any, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(cfg, dict) and not hasattr(cfg, "get"):
            return None
        cfg = cfg.get(key)
        if cfg is None:
            return None
    return cfg


def launched_world_size() -> int | None:
    """Return the processes that torchrun or Slurm started, None without either."""
    for name in ("WORLD_SIZE", "SLURM_NTASKS"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return None


def check_batch(doctor: Findings, world_size: int | None) -> None:
    """Compare the effective global batch with the one the LR was chosen for."""
    from .names import parse_name

    wanted = doctor.cfg.get("base_batch_size")
    batch = _at(doctor.cfg, "train_dataloader.batch_size")
    if not wanted or not batch:
        return
    if world_size is None:
        world_size = launched_world_size()
    if world_size is None:
        parsed = parse_name(doctor.trace.path, strict=False)
        world_size = parsed.gpus if parsed else 1
    steps = _at(doctor.cfg, "optim_wrapper.accumulative_counts") or 1
    effective = world_size * batch * steps
    if effective != wanted:
        doctor.warnings.append(
            f"{doctor.place('base_batch_size')}: the learning rate was chosen for a "
            f"global batch of {wanted}, but {world_size} GPU x {batch} x "
            f"{steps} accumulated = {effective}. Change the number of GPUs, "
            "train_dataloader.batch_size or optim_wrapper.accumulative_counts, or "
            "scale the learning rate."
        )


def check_optimizer(doctor: Findings) -> None:
    """The constructor's name must be registered, and its settings its own."""
    from mmvlm.registry import OPTIM_WRAPPER_CONSTRUCTORS

    wrapper = doctor.cfg.get("optim_wrapper") or {}
    name = wrapper.get("constructor")
    if name is None or not isinstance(name, str):
        return
    try:
        constructor = resolve(OPTIM_WRAPPER_CONSTRUCTORS, name)
    except UnknownName:
        known = names_in(OPTIM_WRAPPER_CONSTRUCTORS)
        message = f"no such optimizer wrapper constructor.{nearest(name, known)}"
        doctor.report("optim_wrapper.constructor", message, name)
        return
    try:
        constructor(dict(wrapper), wrapper.get("paramwise_cfg"))
    except (ValueError, TypeError, KeyError) as error:
        doctor.report("optim_wrapper.paramwise_cfg", str(error))


#: Least value of a number of the training, wherever it stands below a field.
_LEAST = {
    "lr": 0,
    "weight_decay": 0,
    "eps": 0,
    "max_norm": 0,
    "clip_value": 0,
    "accumulative_counts": 1,
    "max_iters": 1,
    "max_epochs": 1,
    "batch_size": 1,
    "num_workers": 0,
    "prefetch_factor": 1,
}
_TRAINING = ("optim_wrapper", "param_scheduler", "train_cfg", "train_dataloader")
#: Dicts of these fields whose owners tell the doctor no types.
_UNTYPED = ("optim_wrapper.paramwise_cfg.parts.", "randomness.seed")


def check_numbers(doctor: Findings) -> None:
    """Numbers that training is made of must be numbers, and not too small."""
    for name in (*_TRAINING, "val_dataloader", "test_dataloader", "randomness"):
        for path, value in _leaves(doctor.cfg.get(name), name):
            kind = float if path != "randomness.seed" else int
            if path.startswith(_UNTYPED) and value is not None:
                message = wrong_type("this setting", value, kind)
                if message:
                    doctor.report(path, message, value)
            least = _LEAST.get(path.rpartition(".")[2])
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if least is not None and number and not value >= least:
                doctor.report(path, f"expected a number of at least {least}.", value)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield everything below a value that holds nothing, with its dotted path."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{path}.{number}")
    else:
        yield path, value


def check_dtypes(doctor: Findings) -> None:
    """Every dtype has a name that computing, or loading, knows."""
    from mmvlm.engine.optimizers.optim_wrapper import precision
    from mmvlm.models.utils.hf_loading import as_dtype

    named = [(path, _at(doctor.cfg, path), precision) for path in _PRECISIONS]
    for path, value in _leaves(doctor.cfg.get("model"), "model"):
        if path.endswith(".torch_dtype") and ".config." not in path:
            named.append((path, value, as_dtype))
    for path, name, known in named:
        try:
            known(name)
        except ValueError as error:
            doctor.report(path, str(error).partition(": ")[2], name)


def check_plain_dicts(doctor: Findings) -> None:
    """Fields of the runner that are dicts of fixed keys."""
    for field, keys in PLAIN_KEYS.items():
        values = doctor.cfg.get(field)
        several = isinstance(values, (list, tuple))
        for number, value in enumerate(values if several else [values]):
            path = f"{field}.{number}" if several else field
            for key in value if isinstance(value, dict) else ():
                if key not in keys:
                    doctor.report(
                        f"{path}.{key}",
                        f"no such key.{nearest(key, keys)} Expected: {listing(keys)}.",
                        value[key],
                    )


def check_sources(doctor: Findings) -> None:
    """Refuse parts whose weights are random though nothing says that they may be."""
    for path, config, _ in doctor.components:
        if path.startswith("model") and not isinstance(
            config.get("random_init", False), bool
        ):
            doctor.report(
                f"{path}.random_init", "expected a bool.", config["random_init"]
            )
    problems, suspects = weight_problems(doctor.cfg, doctor.model)
    for path, message in problems:
        doctor.report(path, message)
    for path, message in suspects:
        doctor.warnings.append(f"{doctor.place(path)}: {message}")


def check_template(doctor: Findings) -> None:
    """Refuse a chat template whose answers have no end that could be learnt."""
    template = build_template(doctor)
    if template is None:
        return
    from mmvlm.structures import Conversation

    answer = "mmvlm-answer"
    try:
        pieces = template.render(Conversation.from_texts("question", answer))
    except (ValueError, RuntimeError):
        return  # wants more than plain text: a tokenizer or an image
    said = "".join(piece.text for piece in pieces if piece.supervised)
    if said.partition(answer)[2] == "":
        doctor.report(
            _place_of(doctor, "chat_template"),
            "an answer ends with no supervised end mark (EOS), so the model would "
            "never learn to stop. Give the template an end such as '</s>'.",
            _template_name(doctor),
        )


def check_steps(doctor: Findings) -> None:
    """Refuse regions in another frame than images, and steps of different modes."""
    from mmvlm.registry import TRANSFORMS

    for path, steps in pipelines(doctor.cfg):
        written = [step for step in steps if "codec" in step or takes_mode(step)]
        try:
            chain = Compose(
                [TRANSFORMS.build(dict(step)) for step in (*views_in(steps), *written)]
            )
            chain.check_frames()
            chain.check_modes()
        except ValueError as error:
            doctor.report(path, str(error))
        except (TypeError, KeyError):
            continue  # reported where it stands


def build_template(doctor: Findings) -> Any:
    """Return the built chat template; None if there is none or it is ill."""
    from mmvlm.registry import CHAT_TEMPLATES

    try:
        config = processor_config(doctor.cfg)["chat_template"]
    except ValueError as error:
        doctor.report("processor", str(error))
        return None
    if any(p.startswith("chat_template") for p in doctor.problems):
        return None
    config = dict(type=config) if isinstance(config, str) else config
    if not isinstance(config, dict):
        return None
    try:
        return CHAT_TEMPLATES.build(dict(config))
    except (ValueError, TypeError, KeyError, ImportError) as error:
        place = _place_of(doctor, "chat_template")
        doctor.report(place, f"cannot be built: {error}")
        return None


def _place_of(doctor: Findings, key: str) -> str:
    """Return where a config says the tokenizer or the template."""
    return key if doctor.cfg.get(key) is not None else f"processor.{key}"


def _template_name(doctor: Findings) -> Any:
    config = processor_config(doctor.cfg)["chat_template"]
    return config if isinstance(config, str) else config.get("type")


def check_tokenizer(doctor: Findings) -> None:
    """Load the tokenizer and let the template look at it."""
    from mmvlm.models.language_models.new_tokens import NewTokens
    from mmvlm.registry import TOKENIZERS
    from mmvlm.text.vocabulary import (
        add_new_tokens,
        check_vocabulary,
        foreign_vocabulary,
    )

    template = build_template(doctor)
    config = processor_config(doctor.cfg)["tokenizer"] if template else None
    place = _place_of(doctor, "tokenizer")
    if not isinstance(config, dict) or template is None:
        return
    try:
        tokenizer = TOKENIZERS.build(dict(config))
        add_new_tokens(tokenizer, NewTokens.of(doctor.cfg.get("model")))
    except (ValueError, OSError, ImportError) as error:
        doctor.report(place, str(error))
        return
    try:
        template.check_tokenizer(tokenizer)
    except ValueError as error:
        where = _place_of(doctor, "chat_template")
        doctor.report(where, str(error), _template_name(doctor))
    language_model = getattr(doctor.model, "language_model", None)
    if language_model is None or not hasattr(tokenizer, "get_vocab"):
        return
    try:
        check_vocabulary(tokenizer, language_model)
    except ValueError as error:
        doctor.report(place, str(error))
        return
    architecture = getattr(language_model, "config", None)
    ends = getattr(architecture, "eos_token_id", None)
    if why := foreign_vocabulary(tokenizer, language_model.vocab_size, ends):
        doctor.warnings.append(
            f"{doctor.place(place)}: is it the language model's? {why}."
        )


def check_build(doctor: Findings) -> None:
    """Build the model on the meta device: widths, layers, train rules, tokens.

    Skipped for a model whose architecture is not written in the config, and for
    constructors that compute on tensors, which the meta device cannot do.
    """
    from mmvlm.structures import LayoutError

    from .meta_model import build_on_meta, is_offline, sample_tokens

    model_cfg = doctor.cfg.get("model")
    if not isinstance(model_cfg, dict) or not is_offline(model_cfg):
        return
    try:
        model = build_on_meta(model_cfg)
    except (ValueError, KeyError, TypeError) as error:
        text = error.args[0] if isinstance(error, KeyError) else error
        doctor.report("model", f"cannot be built: {text}")
        return
    except (RuntimeError, NotImplementedError, ImportError):
        return
    _check_precision(doctor, model)
    doctor.model = model
    check_positions(doctor)
    try:
        budgets = list(sample_tokens(doctor.cfg, model))
    except LayoutError as error:
        doctor.report("model.connector", str(error))
        return
    except (ValueError, KeyError, TypeError):
        return  # a transform that wants more than an image
    for path, tokens, limit in budgets:
        if tokens >= limit:
            doctor.report(
                path,
                f"an image alone takes {tokens} tokens, so no text would fit. Raise "
                "it, or use fewer views.",
                limit,
            )


def _check_precision(doctor: Findings, model: Any) -> None:
    """Refuse trained weights in half precision that nothing keeps in float32."""
    from mmvlm.engine.optimizers.float32_weights import (
        half_precision_weights,
        without_autocast,
    )
    from mmvlm.engine.optimizers.optim_wrapper import wrapper_dtype

    wrapper = doctor.cfg.get("optim_wrapper")
    strategy = str(_at(doctor.cfg, "strategy.type"))
    if not isinstance(wrapper, dict) or "DeepSpeed" in strategy:  # has its own copies
        return
    if wrapper_dtype(wrapper) is None:
        found = half_precision_weights(model)
        if found:
            doctor.report(
                "optim_wrapper.dtype", without_autocast(found), wrapper.get("dtype")
            )


def check_positions(doctor: Findings) -> None:
    """Warn of samples that may be longer than the language model's positions."""
    from .meta_model import length_limits

    guard = getattr(getattr(doctor.model, "language_model", None), "position_guard", 0)
    if not guard or guard.limit is None:
        return
    for path, step, _ in length_limits(doctor.cfg):
        limit = step["max_length"]
        if limit <= guard.limit:
            continue
        text = (
            f"longer than the {guard.limit} positions of model.language_model "
            "(max_position_embeddings, rope scaling counted)"
        )
        if guard.learned:
            doctor.report(path, f"{text}, which are learned.", limit)
        else:
            where = doctor.place(path)
            doctor.warnings.append(f"{where}: samples of {limit} tokens are {text}.")


def check_files(doctor: Findings, which: bool | Iterable[str]) -> None:
    """Report annotation files, image folders and checkpoints that are missing."""
    everything = ("train", "val", "test", "load_from")
    names = everything if which is True else tuple(which)
    if unknown := sorted(set(names) - set(everything)):
        raise ValueError(f"check_files: {unknown} are none of {everything}.")
    for path, config, _ in doctor.components:
        head = path.split(".", 1)[0]
        if head in {f"{name}_dataloader" for name in names}:
            _dataset_files(doctor, path, config)
    # A resumed run has its weights from its own checkpoint.
    if "load_from" in names and not doctor.cfg.get("resume"):
        _checkpoint_files(doctor)


def _checkpoint_files(doctor: Findings) -> None:
    load_from = doctor.cfg.get("load_from") or []
    single = isinstance(load_from, (str, dict))
    for number, item in enumerate([load_from] if single else load_from):
        path = "load_from" if single else f"load_from.{number}"
        if isinstance(item, dict):
            path, item = f"{path}.path", item.get("path")
        if isinstance(item, str) and "://" not in item:
            try:
                resolve_checkpoint(item)
            except FileNotFoundError as error:
                doctor.report(path, f"{error}{_how_to_train(item)}")


def _how_to_train(folder: str) -> str:
    """Return the command whose work dir a missing checkpoint would be, or nothing."""
    from .find import find_config

    parent, name = os.path.split(os.path.normpath(folder))
    if os.path.basename(parent) != "work_dirs":
        return ""
    try:
        file = find_config(name)
    except FileNotFoundError:
        return ""
    return f" Train it first: python tools/train.py {os.path.relpath(file)}"


def _dataset_files(doctor: Findings, path: str, config: dict) -> None:
    from mmvlm.datasets.tiny_scenes.build import maker_of

    root = config.get("data_root") or ""
    for key, word in (("ann_file", "file"), ("image_prefix", "folder")):
        value = config.get(key)
        if not isinstance(value, str) or "://" in value:
            continue
        full = os.path.join(root, value)
        if not os.path.exists(full):
            made = maker_of(root, value)
            doctor.report(
                f"{path}.{key}",
                f"no such {word} '{full}'. Put it there or set {path}.data_root."
                + (f" To write it: {made}" if made else ""),
                value,
            )
