"""Feed damaged replies to every codec in every geometry; exit with 1 where one raises.

    python tools/analysis/fuzz_decoders.py --num 100000 --seed 0

A reply is what a codec writes, with numbers of any length, cut, doubled and swapped
pieces, marks of other codecs and characters of all scripts; it is decoded from its
text and from ids, some of which the tokenizer does not have; some replies are nothing
but noise. Every other codec reads the same text. An error that decoding would only
name counts too. The official rules of referring judge the same texts. The same seed
gives the same replies.
"""

import mmvlm  # noqa: F401  isort: skip

import argparse
import time
import traceback
from collections import Counter

import numpy as np

from mmvlm.evaluation.functional.referring import PROTOCOLS, judge_box
from mmvlm.registry import CODECS, TOKENIZERS
from mmvlm.structures import Boxes, Region, ViewLayout
from mmvlm.text.decoding import decode
from mmvlm.utils.entry import run_tool

SIZES = ((48, 64), (640, 427), (1, 1), (5, 4000))
NUMBERS = ("9" * 5000, "1" + "0" * 400, "-0", "+3", "1e999", "nan", "inf", "0x1", "")
NUMBERS += ("0.5", "1.000", "1023", "1024", "1_0", "\u0663\u0664", "\u00b2", "7" * 19)
WORDS = ("[", "]", "(", ")", "<", ">", ",", ";", " ", "\n", "[SEG]", "<box>", "\0")
WORDS += ("</box>", "<ref>", "<b_st>", "<bin_", "<object>", "</object>", "<phrase>")
WORDS += ("<patch_index_", "<c", "<p", "[[", "]]", "),(", "\u202e", "\ud800")
NO_IDS = (-1, -200, 2**31, 2**70, 10**9, float("nan"), float("inf"), None, "7", [3])


def every_codec():
    """Codecs of all names and variants, each with a tokenizer that has its tokens."""
    CODECS.import_from_location()
    configs = []
    for name, kind in sorted(CODECS.module_dict.items()):
        places = kind.geometries if kind.writes_coordinates else ()
        configs += [dict(type=name, geometry=place) for place in places]
        configs += [] if places else [dict(type=name)]
    configs += [dict(type="ShikraCodec", tokens=True)]
    configs += [dict(type="ShikraCodec", brackets="round")]
    configs += [dict(type="PinkCodec", add_marks=True)]
    configs += [dict(type="QwenVLCodec", decode_at="draw")]
    for config in configs:
        tokenizer = TOKENIZERS.build(dict(type="TinyTokenizer", codec=config))
        yield config, CODECS.build(dict(config)), tokenizer


def reply(codec, rng):
    """Return what a codec writes of some boxes, damaged in up to six places."""
    if rng.random() < 0.05:
        return "".join(map(chr, rng.integers(1, 0x3000, int(rng.integers(200)))))
    rows = np.sort(rng.uniform(0, 48, (int(rng.integers(1, 4)), 2, 2)), axis=1)
    phrase = None if rng.random() < 0.5 else "a dog"
    region = Region(0, Boxes(rows.reshape(-1, 4), (48, 64)), phrase=phrase)
    text = codec.encode(region, ("user", "assistant")[int(rng.integers(2))])
    for _ in range(int(rng.integers(7))):
        text = _damaged(text, rng)
    return text


def _damaged(text, rng):
    first, last = sorted(rng.integers(0, len(text) + 1, 2).tolist())
    kind = int(rng.integers(6))
    if kind == 0:
        return text[:first] + text[last:]
    if kind == 1:
        return text[:last] + text[first:last] + text[last:]
    if kind == 2:
        digits = [at for at, one in enumerate(text) if one.isdigit()] or [0]
        at = digits[int(rng.integers(len(digits)))]
        return text[:at] + NUMBERS[int(rng.integers(len(NUMBERS)))] + text[at + 1 :]
    if kind == 3:
        return text[last:] + text[first:last] + text[:first]
    if kind == 4:
        return text[:first] + chr(int(rng.integers(1, 0x3000))) + text[first:]
    return text[:first] + WORDS[int(rng.integers(len(WORDS)))] + text[first:]


def ids_of(text, tokenizer, rng):
    """Return the ids of a text, in one of three cases with some that are none."""
    ids = tokenizer(text.encode("utf-8", "replace").decode())["input_ids"]
    for _ in range(int(rng.integers(4)) if rng.random() < 0.3 else 0):
        wrong = NO_IDS[int(rng.integers(len(NO_IDS)))]
        ids.insert(int(rng.integers(len(ids) + 1)), wrong)
    return ids


def fuzz(num, seed=0):
    """Return how many replies each codec found to be what, and what raised."""
    outcomes, failures = Counter(), []
    codecs = list(every_codec())
    for number in range(num):
        config, codec, tokenizer = codecs[number % len(codecs)]
        rng = np.random.default_rng((seed, number))
        text = reply(codec, rng)
        size = SIZES[int(rng.integers(len(SIZES)))]
        layouts = (ViewLayout(size, (48, 48)),) * int(rng.integers(3))
        try:
            ids = ids_of(text, tokenizer, rng)
            stops = ("</s>", "###", text[:3]) if rng.random() < 0.2 else ("</s>",)
            said = decode(ids, tokenizer, codec, layouts, stops=stops)
            assert not any("cannot read it: " in one for one in said.problems)
            regions = list(said.regions)
            for protocol in PROTOCOLS:
                judge_box(protocol, text, (3, 4, 30, 40), size, expression="a dog")
            for config, reader, _ in codecs:
                found = reader._decode(text, size)  # decode() turns errors into words
                regions += found.regions
                outcomes[config["type"], found.verdict] += 1
            assert all(np.isfinite(one.boxes.xyxy).all() for one in regions)
        except Exception:
            failures.append(f"case {number}, {config}: {text!r:.200}\n")
            failures[-1] += traceback.format_exc(limit=-3)
    return outcomes, failures


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num", type=int, default=2000, help="replies")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    start = time.perf_counter()
    outcomes, failures = fuzz(args.num, args.seed)
    for (name, verdict), count in sorted(outcomes.items()):
        print(f"{name:18} {verdict:10} {count}")
    print("\n".join(failures[:20]))
    seconds = time.perf_counter() - start
    print(f"{args.num} replies, {len(failures)} failures, {seconds:.0f} s.")
    return 1 if failures else 0


if __name__ == "__main__":
    run_tool(main)
