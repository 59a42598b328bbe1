"""The config doctor, the dry run and their kin."""

from .check import Doctor, check_config
from .diff import Difference, diff_configs
from .load import find_config, load_config
from .origin import ConfigTrace, Origin
from .problems import ConfigError

__all__ = [
    "ConfigError",
    "ConfigTrace",
    "Difference",
    "Doctor",
    "Origin",
    "check_config",
    "diff_configs",
    "find_config",
    "load_config",
]
