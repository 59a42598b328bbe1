"""The config doctor, the dry run and their kin."""

from .check import Doctor, check_config
from .load import find_config, load_config
from .origin import ConfigTrace, Origin
from .problems import ConfigError

__all__ = [
    "ConfigError",
    "ConfigTrace",
    "Doctor",
    "Origin",
    "check_config",
    "find_config",
    "load_config",
]
