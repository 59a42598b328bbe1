"""Configs by name."""

import pytest

from mmvlm.apis import get_config, list_configs


def test_every_listed_config_is_found_by_name():
    names = list_configs("llava/*")
    assert names and not any("_base_" in name for name in names)
    short = names[0].rpartition("/")[2]
    assert list_configs(short) == [names[0]]
    assert get_config(short).filename == get_config(names[0]).filename


def test_unknown_name_suggests_the_nearest():
    name = list_configs("llava/*")[0]
    with pytest.raises(FileNotFoundError, match=name.rpartition("/")[2][:-1]):
        get_config(name[:-1])
