import pytest

from mmvlm.config.origin import COMMAND_LINE, ConfigTrace


def _place(chain, trace, path):
    origin = trace.where(path)
    return origin.file.rsplit("/", 1)[-1], origin.line


def test_where_names_the_file_that_wrote_a_value(chain):
    path = chain.child("model = dict(\n    connector=dict(depth=3),\n)")

    trace = ConfigTrace.read(path)

    assert _place(chain, trace, "model.connector.depth") == ("child.py", 3)
    wanted = ("base.py", chain.line("base.py", "select_layers="))
    assert _place(chain, trace, "model.connector.select_layers") == wanted
    wanted = ("base.py", chain.line("base.py", "max_length=512"))
    path = "train_dataloader.dataset.pipeline.2.max_length"
    assert _place(chain, trace, path) == wanted


def test_where_falls_back_to_the_nearest_ancestor(chain):
    trace = ConfigTrace.read(chain.base)

    line = chain.line("base.py", 'type="MLPConnector"') - 1
    assert _place(chain, trace, "model.connector.nothing.deep") == ("base.py", line)


def test_variables_unpacking_and_base_references_are_followed(chain):
    path = chain.child(
        "lr = 0.5\n"
        "common = dict(depth=4)\n"
        "model = dict(connector=dict(**common))\n"
        "optim_wrapper = dict(optimizer=dict(lr=lr))\n"
        "val_dataloader = dict(dataset=_base_.train_dataloader.dataset)\n"
        "steps = [dict(type='A')] + [dict(type='B')]\n"
    )

    trace = ConfigTrace.read(path)

    assert _place(chain, trace, "model.connector.depth") == ("child.py", 3)
    assert trace.node("optim_wrapper.optimizer.lr").value == 0.5
    wanted = chain.line("base.py", "ann_file=")
    found = _place(chain, trace, "val_dataloader.dataset.ann_file")
    assert found == ("base.py", wanted)
    assert trace.node("steps.1.type").value == "B"
    assert {"lr", "common", "train_dataloader"} <= trace.used_names
    assert "steps" not in trace.used_names


def test_delete_forgets_the_parent(chain):
    text = 'model = dict(connector=dict(_delete_=True, type="LinearConnector"))'

    node = ConfigTrace.read(chain.child(text)).node("model.connector")

    assert set(node.children) == {"type"}
    assert not node.stale


def test_stale_names_what_outlived_its_type(chain):
    text = 'model = dict(connector=dict(type="LinearConnector", select_layers=[-1]))'

    node = ConfigTrace.read(chain.child(text)).node("model.connector")

    assert set(node.stale) == {"depth"}
    assert node.stale["depth"].line == chain.line("base.py", "depth=2")
    assert node.old_type == "MLPConnector"


def test_stale_survives_a_third_file_and_ends_when_it_is_set(chain):
    chain.child('model = dict(connector=dict(type="LinearConnector"))', "middle.py")
    leaf = chain.write("leaf.py", '_base_ = ["middle.py"]\nlr = 1\n')
    ended = chain.write(
        "ended.py", '_base_ = "middle.py"\nmodel = dict(connector=dict(depth=1))\n'
    )

    stale = ConfigTrace.read(leaf).node("model.connector").stale
    assert set(stale) == {"depth", "select_layers"}
    stale = ConfigTrace.read(ended).node("model.connector").stale
    assert set(stale) == {"select_layers"}


def test_command_line_is_an_origin(chain):
    trace = ConfigTrace.read(chain.base)

    trace.set("train_dataloader.dataset.pipeline.2.max_length", 9)

    path = "train_dataloader.dataset.pipeline.2"
    assert trace.where(f"{path}.max_length") == COMMAND_LINE
    assert trace.node(f"{path}.type").value == "EncodeConversation"
    assert len(trace.node("train_dataloader.dataset.pipeline").children) == 4


def test_statements_that_change_a_dict_are_followed(chain):
    path = chain.write(
        "lists.py",
        "model = dict(connector=dict(depth=1))\n"
        "model['connector'] = dict(\n"
        "    width=3)\n"
        "model.update(dict(\n"
        "    extra=1))\n",
    )

    trace = ConfigTrace.read(path)

    assert trace.where("model.connector.width").line == 3
    assert trace.where("model.extra").line == 5
    assert trace.node("model.connector.depth") is None


def test_a_circle_and_a_missing_base_are_named(chain):
    chain.write("one.py", '_base_ = "two.py"\n')
    chain.write("two.py", '_base_ = "one.py"\n')
    lost = chain.write("lost.py", '_base_ = "gone.py"\n')

    with pytest.raises(ValueError, match="circle"):
        ConfigTrace.read(chain.folder / "one.py")
    with pytest.raises(FileNotFoundError, match=r"lost.py: inherits from '.*gone.py'"):
        ConfigTrace.read(lost)


def test_files_lists_bases_first(chain):
    trace = ConfigTrace.read(chain.child(""))

    assert [file.rsplit("/", 1)[-1] for file in trace.files] == ["base.py", "child.py"]
