import pytest

from mmvlm.config.names import parse_name


def test_a_name_is_parsed():
    name = parse_name(
        "configs/llava/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft-lora_"
        "llava-665k.py"
    )

    assert (name.gpus, name.batch, name.length, name.by_epoch) == (8, 16, 1, True)
    assert (name.stage, name.tuning) == ("ft", "lora")
    assert (name.connector, name.llm) == ("mlp2x", "vicuna-v15-7b")
    assert (name.model, name.data) == ("llava-clip-l14-336", "llava-665k")


@pytest.mark.parametrize(
    ("schedule", "length", "by_epoch"),
    [("1xb2-20i-pt", 20, False), ("4xb2-3k-ft", 3000, False), ("2xb1-2e-ft", 2, True)],
)
def test_lengths(schedule, length, by_epoch):
    name = parse_name(f"llava-tiny_mlp2x_tiny_{schedule}_toy.py")

    assert (name.length, name.by_epoch) == (length, by_epoch)
    assert name.tuning == "full"


def test_a_sixth_part_is_the_test_set():
    assert parse_name("a_b_c_1xb2-1e-ft_toy_pope.py").test == "pope"


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("a_b_c.py", "got 3 parts"),
        ("a_b_c_8x32-1e-pt_d.py", "schedule '8x32-1e-pt' is not"),
        ("A_b_c_8xb32-1e-pt_d.py", "'A' is not lower-case"),
        ("a_b_c1.5_8xb32-1e-pt_d.py", "'c1.5' is not lower-case"),
    ],
)
def test_a_wrong_name_says_which_part(name, match):
    with pytest.raises(ValueError, match=match):
        parse_name(name)
    assert parse_name(name, strict=False) is None
