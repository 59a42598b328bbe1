import pickle

import pytest

from mmvlm.config import ConfigError, find_config, load_config


def test_options_set_existing_paths_and_list_items(chain):
    options = {
        "model.connector.depth": 3,
        "train_dataloader.dataset.pipeline.2.max_length": 77,
        "work_dir": "somewhere",
        "+model.generation.max_new_tokens": 5,
    }

    cfg = load_config(chain.base, options)

    assert cfg.model.connector.depth == 3
    assert cfg.train_dataloader.dataset.pipeline[2].max_length == 77
    assert cfg.work_dir == "somewhere"
    assert cfg.model.generation.max_new_tokens == 5


@pytest.mark.parametrize(
    ("key", "match"),
    [
        ("model.connector.act", r"Prefix the path with \+ to add a key: \+model\.conn"),
        ("train_dataloader.dataset.pipeline.9.x", "no item 9 in .*which has 4"),
        ("chat_template.system", "chat_template is 'vicuna_v1', which has no key"),
        ("modle.connector", "no key 'modle' in the config. Did you mean 'model'"),
    ],
)
def test_options_must_exist(chain, key, match):
    with pytest.raises(ConfigError, match=match):
        load_config(chain.base, {key: 1})


def test_a_chain_of_both_dialects_is_refused(chain):
    lazy = chain.write(
        "lazy.py",
        "from mmengine.config import read_base\nwith read_base():\n"
        "    from .child import *\n",
    )
    chain.child("")

    with pytest.raises(ConfigError, match=r"mixes text configs.*lazy.py is lazy"):
        load_config(lazy)


def test_a_lazy_config_loads(chain):
    base = (chain.folder / "base.py").read_text()
    base = base.replace('type="MLPConnector"', "type=MLPConnector")
    imported = "from mmvlm.models.connectors.mlp import MLPConnector\n"
    chain.write("lazy_base.py", imported + base)
    lazy = chain.write(
        "lazy.py",
        "from mmengine.config import read_base\nwith read_base():\n"
        "    from .lazy_base import *\nmodel.update(dict(connector=dict(depth=3)))\n",
    )

    cfg = load_config(lazy)

    from mmvlm.models.connectors.mlp import MLPConnector

    assert cfg.model.connector.depth == 3
    assert cfg.model.connector.type is MLPConnector
    broken = chain.write(
        "broken.py", (chain.folder / "lazy.py").read_text().replace("depth", "dept")
    )
    with pytest.raises(ConfigError, match=r"broken.py:4\).*'dept' for MLPConnector"):
        load_config(broken)


def test_shipped_configs_are_found_by_name():
    name = "llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb32-1e-pt_llava-558k"

    assert find_config(name) == find_config(f"configs/llava/{name}.py".split("/", 1)[1])
    with pytest.raises(FileNotFoundError, match=f"Did you mean .*{name}"):
        find_config(name.replace("vicuna", "vicunia"))


def test_the_error_survives_pickling(chain):
    """Errors cross process borders in launchers and pools."""
    with pytest.raises(ConfigError) as error:
        load_config(chain.base, {"model.x": 1})

    again = pickle.loads(pickle.dumps(error.value))
    assert str(again) == str(error.value)
    assert again.problems == error.value.problems


def test_check_false_loads_what_is_ill(chain):
    path = chain.child("wrok_dir = 'x'")

    assert load_config(path, check=False).wrok_dir == "x"


def test_a_delete_mark_without_parent_leaves_no_trace(chain):
    path = chain.child("load_from = dict(_delete_=True, path='x.pth')")

    assert load_config(path).load_from.to_dict() == dict(path="x.pth")


def test_what_a_run_writes_down_loads_again(chain):
    path = chain.child("depth = 3\nmodel = dict(connector=dict(depth=depth))")
    cfg = load_config(path)

    cfg.dump(chain.folder / "dumped.py")

    assert "depth" not in cfg
    again = load_config(chain.folder / "dumped.py")
    assert again.to_dict() == cfg.to_dict()


def test_a_chain_that_cannot_merge_says_so(chain):
    path = chain.child("model = dict(connector=dict(depth=dict(a=1)))")

    with pytest.raises(ConfigError, match=r"base.py -> .*child.py cannot be merged"):
        load_config(path)
