from mmvlm.config.diff import ABSENT, diff_configs


def test_diff_tells_changed_added_and_removed_keys():
    old = dict(model=dict(depth=2, act="gelu", layers=[1, 2]), lr=1.0)
    new = dict(model=dict(depth=3, layers=(1, 2), width=4), lr=1.0)

    found = {d.path: (d.left, d.right) for d in diff_configs(old, new)}

    assert found == {
        "model.depth": (2, 3),
        "model.act": ("gelu", ABSENT),
        "model.width": (ABSENT, 4),
    }


def test_diff_looks_into_lists_of_dicts_and_tells_types_apart():
    old = dict(pipeline=[dict(type="A"), dict(type="B", on=True)])
    new = dict(pipeline=[dict(type="A"), dict(type="B", on=1)])

    lines = [str(d) for d in diff_configs(old, new)]

    assert lines == ["~ pipeline.1.on: True -> 1"]


def test_equal_configs_have_no_difference():
    assert diff_configs(dict(a=dict(b=[])), dict(a=dict(b=[]))) == []
