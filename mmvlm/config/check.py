"""The config doctor: what is wrong with a config, said before anything is built."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable
from typing import Any

from mmengine.registry import Registry

import mmvlm.config.positions as positions
import mmvlm.config.rules as rules
from mmvlm.registry import MODELS

from .origin import COMMAND_LINE, ConfigTrace
from .parts import kind_name, part_fields
from .problems import ConfigError, Findings, listing, nearest, short
from .signatures import Accepted, accepted_keywords, wrong_type

_META_KEYS = {"type", "_scope_"}


class Doctor(Findings):
    """Collect the problems and warnings of one config by walking through it."""

    def raise_on_problems(self) -> None:
        """Raise one ConfigError that lists every problem."""
        if self.problems:
            raise ConfigError(self.trace.path, self.problems)

    def examine(self) -> None:
        """Check every top-level field and all that hangs below it."""
        for name in list(self.cfg.keys()):
            if name.startswith("_"):
                continue
            value = self.cfg[name]
            if name in positions.FIELDS:
                self._field(name, value, positions.FIELDS[name])
            elif name in positions.DATALOADERS:
                self._dataloader(name, value)
            elif name == "benchmark":
                self._benchmark(name, value)
            elif name in positions.PLAIN_FIELDS:
                self._plain(name, value)
            elif not self._is_helper(name):
                known = {
                    *positions.FIELDS,
                    *positions.DATALOADERS,
                    *positions.PLAIN_FIELDS,
                    "benchmark",
                }
                self.report(
                    name,
                    "unknown top-level field, and no other value of the config "
                    f"reads it.{nearest(name, known)}",
                )

    # -- fields -----------------------------------------------------------

    def _is_helper(self, name: str) -> bool:
        """Whether a name is a variable or import that the files themselves use."""
        imported = getattr(self.cfg, "_imported_names", set())
        value = self.cfg[name]
        if name in imported or inspect.isclass(value) or callable(value):
            return True
        if name not in self.trace.used_names and not self.trace.external:
            return False
        node = self.trace.node(name)
        if node is not None and node.origin == COMMAND_LINE:
            self.report(
                name,
                "a helper variable; what was built from it is already merged, so "
                "setting it here changes nothing. Set the fields that use it.",
                value,
            )
        self.helpers.append(name)
        return True

    def _plain(self, name: str, value: Any) -> None:
        types = positions.PLAIN_FIELDS[name]
        if not isinstance(value, types):
            expected = " or ".join(t.__name__ for t in types)
            self.report(name, f"expected {expected}.", value)

    def _field(self, name: str, value: Any, field: positions.Field) -> None:
        if value is None:
            return
        if field.named and isinstance(value, dict):
            for key in value:
                self._value(f"{name}.{key}", value[key], field.registry, must=True)
            return
        if name == "chat_template" and isinstance(value, str):
            value = dict(type=value)
            if self._resolve(name, value, field.registry, shown=name) is not None:
                self.components.append((name, value, None))
            return
        if isinstance(value, dict) and field.default and "type" not in value:
            value = {"type": self._default_type(name, value, field.default), **value}
        self._value(name, value, field.registry, must=True)

    @staticmethod
    def _default_type(name: str, value: dict, default: str) -> str:
        by_iter = value.get("by_epoch", "max_epochs" in value) is False
        return "IterBasedTrainLoop" if name == "train_cfg" and by_iter else default

    def _dataloader(self, name: str, value: Any) -> None:
        if value is None:
            return
        if not isinstance(value, dict):
            self.report(name, f"expected a dict, got {type(value).__name__}.")
            return
        from torch.utils.data import DataLoader

        accepted = Accepted(dict(accepted_keywords(DataLoader).names))
        accepted.names |= {
            "num_batch_per_epoch": int | None,
            "batch_size": int | None,
            "num_workers": int,
            "persistent_workers": bool,
            "drop_last": bool,
        }
        self._keywords(name, value, accepted, "a dataloader")
        for key in ("dataset", "batch_size"):
            if key not in value and "batch_sampler" not in value:
                self.report(name, f"required keyword '{key}' is missing.")
        for key in value:
            if key in positions.BY_KEY:
                registry = positions.BY_KEY[key]
                self._value(f"{name}.{key}", value[key], registry, must=True)

    def _benchmark(self, name: str, value: Any) -> None:
        """Check the data of a benchmark; see :class:`Benchmark`."""
        from mmvlm.evaluation.benchmark import Benchmark, faults

        if not isinstance(value, dict):
            self.report(name, f"expected a dict, got {type(value).__name__}.")
            return
        accepted = accepted_keywords(Benchmark)
        self._keywords(name, value, accepted, "a benchmark")
        for keyword in sorted(accepted.required - set(value)):
            self.report(
                name, f"required keyword '{keyword}' of a benchmark is missing."
            )
        for key in set(value) - {"submission"}:
            self._child(name, key, value[key], positions.BY_KEY["scorer"])
        for key, message in faults(value):
            self.report(f"{name}.{key}", message, value[key])

    # -- components ---------------------------------------------------------

    def _value(
        self,
        path: str,
        value: Any,
        registry: Registry,
        must: bool = False,
        base: type | None = None,
    ) -> None:
        """Walk a value that may hold components of a registry.

        ``must`` says that a dict here is a component and needs a ``type``; ``base``
        is the class that a component here must have.
        """
        if isinstance(value, (list, tuple)):
            for number, item in enumerate(value):
                self._value(f"{path}.{number}", item, registry, must, base)
        elif isinstance(value, dict):
            if "type" in value:
                self._component(path, value, registry, base)
            elif must:
                choices = listing(registry.module_dict)
                self.report(path, f"has no 'type'; expected one of {choices}.")
            else:
                for key in value:
                    self._child(path, str(key), value[key], registry, base)

    def _child(
        self,
        path: str,
        key: str,
        value: Any,
        registry: Registry,
        base: type | None = None,
    ) -> None:
        if key in positions.OPAQUE:
            return
        if key == "config" and isinstance(value, dict) and "model_type" in value:
            self._hf_config(f"{path}.{key}", value)
            return
        if key in positions.KEYWORDS_OF and isinstance(value, dict):
            self._plain_dict(f"{path}.{key}", value, positions.KEYWORDS_OF[key])
            return
        must = key in positions.BY_KEY and key not in positions.DEFAULT_TYPE
        registry = positions.BY_KEY.get(key, registry)
        self._value(f"{path}.{key}", value, registry, must, base)

    def _component(
        self, path: str, value: dict, registry: Registry, base: type | None = None
    ) -> None:
        found = self._resolve(path, value, registry, base=base)
        if found is None:
            return
        self.components.append((path, value, found))
        if base and not _is_subclass(found, base):
            self.report(
                f"{path}.type",
                f"{found.__name__} is no {base.__name__}; this position needs one.",
            )
        accepted = accepted_keywords(found)
        name = getattr(found, "__name__", str(found))
        wired = set()
        if registry is MODELS:
            from mmvlm.models.utils.assembly import WIRING

            wired = {key for key in WIRING if hasattr(found, key)}
        self._keywords(path, value, accepted, name, registry, wired)
        if registry is not positions.BY_KEY["collate_fn"]:
            filled = positions.FILLED.get(registry.name, set())
            for keyword in sorted(accepted.required - filled - set(value)):
                self.report(path, f"required keyword '{keyword}' of {name} is missing.")
        fields = part_fields(found)
        for key in value:
            if key not in _META_KEYS:
                inner = fields.get(key, (None, False))[0]
                self._child(path, str(key), value[key], registry, inner)

    def _resolve(
        self,
        path: str,
        value: dict,
        registry: Registry,
        shown: str | None = None,
        base: type | None = None,
    ) -> Any:
        """Return the class of ``value['type']``, or report and return None."""
        kind = value["type"]
        shown = shown or f"{path}.type"
        if not isinstance(kind, str):
            if callable(kind):
                return kind
            self.report(shown, "expected a registered name or a class.", kind)
            return None
        try:
            return positions.resolve(registry, kind)
        except positions.UnknownName as error:
            word = kind_name(base) if base else registry.name
            if str(error) != "unregistered":
                self.report(shown, f"{error}.", kind)
                return None
            names = positions.names_in(registry)
            if base:
                names = {n: c for n, c in names.items() if _is_subclass(c, base)}
            see = word.replace(" ", "_")
            self.report(
                shown,
                f"no such {word.replace('_', ' ')}.{nearest(kind, names)} See: "
                f"tools/misc/list_components.py --kind {see}",
                kind,
            )
            return None

    def _keywords(
        self,
        path: str,
        value: dict,
        accepted: Accepted,
        owner: str,
        registry: Registry | None = None,
        wired: Iterable[str] = (),
    ) -> None:
        """Report keywords that are unknown, left over or of a wrong type."""
        node = self.trace.node(path)
        stale = node.stale if node else {}
        consumed = positions.CONSUMED.get(registry.name, set()) if registry else set()
        consumed = {*consumed, *wired}
        kept = []
        for key in value:
            if key in _META_KEYS or key in consumed:
                continue
            if key not in accepted.names and not accepted.open:
                self._unknown_keyword(path, key, value[key], accepted, owner, stale)
                continue
            if key in stale:
                kept.append(f"{key} ({stale[key]})")
            if isinstance(value[key], dict) and "type" in value[key]:
                continue
            message = wrong_type(owner, value[key], accepted.names.get(key))
            if message:
                self.report(f"{path}.{key}", message, value[key])
        if kept:
            self.warnings.append(
                f"{path} ({self.trace.where(f'{path}.type')}): type changed from "
                f"{short(node.old_type)} to {owner}; kept from the parent: "
                f"{', '.join(kept)}. Add _delete_=True unless that is meant."
            )

    def _unknown_keyword(
        self,
        path: str,
        key: str,
        value: Any,
        accepted: Accepted,
        owner: str,
        stale: dict,
    ) -> None:
        if key in stale:
            self.problems.append(
                f"{path} ({self.trace.where(f'{path}.type')}): unexpected keyword "
                f"'{key}' for {owner}; it was inherited from {stale[key]}. "
                "Add _delete_=True or remove it."
            )
            return
        self.report(
            f"{path}.{key}",
            f"unexpected keyword '{key}' for {owner}."
            f"{nearest(key, accepted.names)} It takes: {listing(accepted.names, 20)}.",
            value,
        )

    def _plain_dict(self, path: str, value: dict, owners: tuple[str, ...]) -> None:
        """Check a dict whose keys are keywords of one of some functions."""
        names: dict[str, Any] = {}
        unknown = set(value) - _META_KEYS
        for owner in owners:  # later ones are dear to import and rarely needed
            names |= accepted_keywords(positions.from_path(owner)).names
            unknown -= set(names)
            if not unknown:
                break
        for key in value:
            short = owners[0].rsplit(".", 1)[-1]
            if key in unknown:
                hint = nearest(key, names)
                message = f"unexpected keyword '{key}' for {short}.{hint}"
                self.report(f"{path}.{key}", message, value[key])
            elif message := wrong_type(short, value[key], names.get(key)):
                self.report(f"{path}.{key}", message, value[key])

    def _hf_config(self, path: str, value: dict) -> None:
        """Check an architecture written for transformers."""
        from mmvlm.models.utils.hf_loading import known_configs

        kind = value["model_type"]
        known = known_configs()
        if kind not in known:
            self.report(
                f"{path}.model_type",
                "transformers of this environment has no such architecture."
                + nearest(kind, known.keys()),
                kind,
            )
            return
        cls = known[kind]
        names = dict.fromkeys(("model_type", "architectures", "torch_dtype", "dtype"))
        for base in reversed(cls.__mro__[:-1]):
            names |= accepted_keywords(base).names
        names |= dict.fromkeys(getattr(cls, "attribute_map", {}))
        for key in value:
            message = wrong_type(cls.__name__, value[key], names.get(key))
            if message and isinstance(value[key], str):
                self.report(f"{path}.{key}", message, value[key])
        unknown = [key for key in value if key not in names]
        for key in _ignored_fields(cls, value, unknown) if unknown else ():
            self.report(
                f"{path}.{key}",
                f"{cls.__name__} has no such field.{nearest(key, names)}",
                value[key],
            )


def _ignored_fields(cls: type, value: dict, unknown: list[str]) -> list[str]:
    """Return which fields an architecture's constructor makes nothing of.

    Since version 5 of transformers older names (``rope_theta``) stand in no
    signature; the constructor moves them to where they belong now. What it does
    not know it keeps as an attribute, and drops options of generation.
    """
    from transformers import GenerationConfig

    keywords = {key: value[key] for key in value if key != "model_type"}
    try:
        built = cls(**copy.deepcopy(keywords))
    except Exception:  # of any kind: it says that the values do not fit
        return unknown
    options = GenerationConfig()
    return [key for key in unknown if key in vars(built) or hasattr(options, key)]


def _is_subclass(obj: Any, base: type) -> bool:
    return inspect.isclass(obj) and issubclass(obj, base)


def check_config(
    cfg: Any,
    trace: ConfigTrace | None = None,
    *,
    check_files: bool | Iterable[str] = False,
    check_sources: bool = True,
    world_size: int | None = None,
) -> Doctor:
    """Run the doctor over a merged config.

    Args:
        cfg (mmengine.Config): the config.
        trace (ConfigTrace | None): origins; None reads ``cfg.filename``'s chain.
        check_files (bool | Iterable[str]): look for annotation files, image
            folders and checkpoints, and load the tokenizer; names (``train``,
            ``val``, ``test``, ``load_from``) restrict it to those dataloaders and
            fields.
        check_sources (bool): refuse parts whose weights nothing names; not where a
            checkpoint brings them.
        world_size (int | None): processes of the run; None takes the launcher's
            environment, else the number in the config's file name.

    Returns:
        Doctor: with ``problems`` (empty if all is well) and ``warnings``.
    """
    if trace is None:
        trace = ConfigTrace.read(cfg.filename) if cfg.filename else ConfigTrace("")
    doctor = Doctor(cfg, trace)
    doctor.examine()
    rules.check_parts(doctor)
    rules.check_optimizer(doctor)
    rules.check_numbers(doctor)
    rules.check_dtypes(doctor)
    rules.check_batch(doctor, world_size)
    rules.check_template(doctor)
    rules.check_plain_dicts(doctor)
    if check_files:
        rules.check_files(doctor, check_files)
    if not doctor.problems:
        rules.check_steps(doctor)
        rules.check_build(doctor)
        if check_sources:
            rules.check_sources(doctor)
    if check_files and not doctor.problems:
        rules.check_tokenizer(doctor)
    return doctor
