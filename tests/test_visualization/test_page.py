"""What templates of pages refuse to write."""

import jinja2
import pytest

from mmvlm.visualization.page import render


def test_a_method_is_not_written_in_place_of_a_value():
    row = dict(items=3)

    assert render("{{ row['items'] }}", row=row) == "3"
    with pytest.raises(TypeError, match="writes a function"):
        render("{{ row.items }}", row=row)


def test_an_unknown_name_is_not_written():
    with pytest.raises(jinja2.UndefinedError, match="'rows' is undefined"):
        render("{{ rows }}", row=1)
