"""Regions written as text, and what happens with bad boxes."""

import numpy as np
import pytest

from mmvlm.datasets.collate import collate_flat
from mmvlm.datasets.processor import VLMProcessor
from mmvlm.registry import CHAT_TEMPLATES, CODECS, TOKENIZERS, TRANSFORMS
from mmvlm.structures import (
    IGNORE_INDEX,
    SLOT_TOKEN_ID,
    Boxes,
    Conversation,
    FixedTokenCount,
    Image,
    InputLayout,
    Region,
    SampleInputs,
    Text,
    Turn,
    ViewLayout,
)
from mmvlm.structures.regions import RegionNeeds
from mmvlm.structures.vision import TokenCounts
from mmvlm.text.encoding import SampleDropped, encode_conversation

CODECS.import_from_location()
SIZE = (48, 64)
DOG, CAT = (6.4, 4.8, 32.0, 24.0), (32.0, 24.0, 60.0, 40.0)


def region(*rows, **kwargs):
    return Region(0, Boxes(np.array(rows, dtype=float).reshape(-1, 4), SIZE), **kwargs)


def talk(question, *answer):
    turns = [
        Turn("user", (Image(0), Text("\n"), *question)),
        Turn("assistant", answer),
    ]
    return Conversation(turns, ["a.png"], id="s7")


def write(conversation, codec="ShikraCodec", **options):
    config = dict(type=codec) if isinstance(codec, str) else codec
    transform = TRANSFORMS.build(dict(type="WriteRegions", codec=config, **options))
    return transform(dict(conversation=conversation, dataset="refs", index=3))


def texts(item):
    return [turn.text for turn in item["conversation"].turns]


def test_regions_become_text_and_images_stay():
    item = write(
        talk([Text("Who is in "), region(DOG), Text("?")], region(CAT, phrase="A cat"))
    )

    assert texts(item) == [
        "\nWho is in [0.100,0.200,0.500,0.500]?",
        "A cat[0.500,0.500,0.938,0.750]",
    ]
    assert item["conversation"].turns[0].parts[0] == Image(0)
    assert item["conversation"].id == "s7"
    assert item["regions"] == () and item["clipped_boxes"] == 0
    np.testing.assert_array_equal(item["gt_boxes"].xyxy, [CAT])
    assert item["gt_boxes"].size == SIZE


def test_input_conversation_is_left_as_it_was():
    before = talk([Text("x")], region(DOG))
    write(before)
    assert isinstance(before.turns[1].parts[0], Region)


def test_regions_behind_feature_tokens_are_kept_in_order():
    rings = (((1.0, 1, 2, 1, 2, 2),), ((3.0, 3, 4, 3, 4, 4),))
    question = [region(DOG, CAT, kind="mask", polygons=rings), Text("?")]
    item = write(talk(question, region(CAT)), "FerretCodec")

    assert texts(item)[0].count("<region_fea>") == 2
    assert [r.boxes.xyxy[0].tolist() for r in item["regions"]] == [[*DOG], [*CAT]]
    assert [r.polygons for r in item["regions"]] == [rings[:1], rings[1:]]


def test_answers_of_a_token_codec_keep_their_masks_too():
    item = write(
        talk([Text("Segment.")], Text("It is "), region(DOG, kind="mask")),
        dict(type="RegionTokenCodec", token="[SEG]"),
    )

    assert texts(item)[1] == "It is [SEG]" and len(item["marked_regions"]) == 1
    assert item["regions"] == ()


def test_kosmos2_opens_questions_with_grounded_answers():
    asked = [Text("Where is "), Text("a dog", "expression"), Text("?")]
    grounded = write(talk(asked, region(DOG)), "Kosmos2Codec")
    assert texts(grounded)[0] == "\n<grounding>Where is<phrase> a dog</phrase>?"

    plain = write(talk(asked, Text("There.")), "Kosmos2Codec")
    assert texts(plain)[0] == "\nWhere is<phrase> a dog</phrase>?"


def test_no_boxes_in_the_answer_means_no_gt_boxes():
    assert write(talk([region(DOG)], Text("a dog")))["gt_boxes"] is None
    question = Conversation([Turn("user", (region(DOG),))], [])
    assert write(question)["gt_boxes"] is None


# --------------------------------------------------------------- bad boxes
def test_boxes_that_leave_the_image_are_cut_and_counted():
    answer = region((-5, 4.8, 99, 24), DOG)
    item = write(talk([Text("x")], answer), "PinkCodec")
    assert texts(item)[1] == "[0.000,0.100,1.000,0.500] [0.100,0.100,0.500,0.500]"
    assert item["clipped_boxes"] == 1
    np.testing.assert_array_equal(item["gt_boxes"].xyxy[0], [-5, 4.8, 99, 24])

    kept = write(talk([Text("x")], answer), "PinkCodec", outside="keep")
    assert texts(kept)[1].startswith("[-0.078,0.100,1.547,0.500]")
    assert kept["clipped_boxes"] == 0

    with pytest.raises(ValueError, match=r"sample 3 of refs: box .* leaves the image"):
        write(talk([Text("x")], answer), outside="error")


@pytest.mark.parametrize(
    "row", [(5, 5, 5, 9), (9, 5, 5, 9), (70, 2, 90, 9)], ids=["flat", "swapped", "away"]
)
def test_boxes_without_area_are_an_error_or_kept(row):
    with pytest.raises(ValueError, match=r"sample 3 of refs: box .* has no area"):
        write(talk([Text("x")], region(row)))

    kept = write(talk([Text("x")], region(row)), empty="keep")
    assert "[" in texts(kept)[1]


def test_points_may_have_no_area_and_are_cut_too():
    point = region((70, 20, 70, 20), kind="point")
    item = write(talk([Text("At "), point], Text("x")))
    assert texts(item)[0] == "\nAt [1.000,0.438]" and item["clipped_boxes"] == 1


def test_codec_errors_name_the_sample():
    with pytest.raises(ValueError, match=r"sample 3 of refs: LLaVACodec has no syntax"):
        write(talk([region(DOG, kind="point")], Text("x")), "LLaVACodec")


def test_nan_boxes_never_get_so_far():
    with pytest.raises(ValueError, match="NaN or infinity"):
        region((1, 2, float("nan"), 4))


@pytest.mark.parametrize(
    "options, match",
    [
        (dict(outside="drop"), "outside='drop', expected one of"),
        (dict(empty="drop"), "empty='drop', expected one of"),
    ],
)
def test_unknown_policies_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        write(talk([Text("x")], region(DOG)), **options)


# ------------------------------------------------------- tokens and labels
def context(codec, template="vicuna_v1", with_tokens=True, words=()):
    tokens = [*codec.special_tokens] if with_tokens else []
    tokens += ["<|im_start|>", "<|im_end|>"]
    tokenizer = TOKENIZERS.build(
        dict(type="TinyTokenizer", special_tokens=tokens, words=words)
    )
    built = CHAT_TEMPLATES.build(dict(type=template))
    return VLMProcessor(tokenizer, built, token_count=FixedTokenCount(4))


def test_missing_tokens_are_named_at_binding():
    config = dict(type="WriteRegions", codec=dict(type="QwenVLCodec"))
    lacking = context(CODECS.build(config["codec"]), with_tokens=False)

    with pytest.raises(ValueError, match=r"QwenVLCodec writes 4 .* lacks 4 .*<ref>"):
        TRANSFORMS.build(config).bind(lacking)
    TRANSFORMS.build(dict(config, require_tokens=False)).bind(lacking)


@pytest.mark.parametrize("template", ["vicuna_v1", "qwen", "llava_llama_2", "plain"])
@pytest.mark.parametrize("name", sorted(CODECS.module_dict))
def test_written_answers_are_trained_to_the_character(name, template):
    codec = CODECS.build(dict(type=name))
    bound = context(codec, template)
    transform = TRANSFORMS.build(dict(type="WriteRegions", codec=codec))
    transform.bind(bound)
    asked = [Text("Who is "), region(DOG), Text(" or "), Text("a cat", "expression")]
    if template == "plain" or not codec.writes_coordinates:
        asked = []
    said = [region(CAT, phrase="a cat"), Text(" and "), region(DOG), Text(".")]
    written = transform(dict(conversation=talk(asked, *said)))["conversation"]

    sample = encode_conversation(written, bound.template, bound.tokenizer, [4])

    trained = bound.tokenizer.decode(sample.labels[sample.labels != IGNORE_INDEX])
    answer = written.turns[1].text
    assert answer in trained
    rest = trained.replace(answer, "", 1).strip()
    assert rest in ("</s>", "<|im_end|>", "")
    for token in codec.special_tokens:
        if token in answer:
            number = bound.tokenizer.convert_tokens_to_ids(token)
            assert number in sample.labels
    whole = bound.tokenizer.decode(sample.input_ids[sample.input_ids >= 0])
    assert template == "plain" or written.turns[0].text.strip() in whole


def test_unwritten_regions_name_the_transform():
    codec = CODECS.build(dict(type="ShikraCodec"))
    bound = context(codec)
    item = dict(
        conversation=talk([Text("x")], region(DOG)),
        layouts=[ViewLayout((4, 4), (4, 4))],
        dataset="refs",
        index=3,
    )
    for mode in ("train", "generate"):
        encode = TRANSFORMS.build(dict(type="EncodeConversation", mode=mode))
        encode.bind(bound)
        with pytest.raises(ValueError, match=r"3 of refs.*WriteRegions\(codec"):
            encode(dict(item))


# ------------------------------------------------------- slots and marks
BBOX = dict(type="RegionTokenCodec", question_token="<bbox>")
ROUNDS = (
    [Image(0), Text("\nWhat is "), region(DOG), Text("?")],
    [Text("A dog "), region(DOG, kind="mask")],
    [Text("Is "), region(CAT), Text(" the cat?")],
    [Text("Yes, "), region(CAT, DOG, kind="mask"), Text(", and that is all.")],
)


def marked_item(rounds=ROUNDS):
    turns = [Turn(("user", "assistant")[n % 2], tuple(r)) for n, r in enumerate(rounds)]
    written = write(Conversation(turns, ["a.png"], id="s"), BBOX)
    return dict(written, layouts=[ViewLayout((4, 4), (4, 4))])


def encoder(template="vicuna_v1", regions=3, **options):
    bound = context(CODECS.build(BBOX), template)
    counts = dict(image=4, region=regions)
    bound.token_count = lambda one: counts[getattr(one, "modality", "image")]
    if regions:
        bound.modalities = ("image", "region")
    encode = TRANSFORMS.build(dict(type="EncodeConversation", **options))
    encode.bind(bound)
    return encode


def corners(regions):
    return [tuple(one.boxes.xyxy[0]) for one in regions]


def places(encoded):
    slots = [(s.modality, s.index, s.length) for s in encoded.slots]
    return slots, [(mark.kind, mark.index) for mark in encoded.marks]


def test_regions_stand_in_the_order_of_slots_and_marks():
    item = encoder()(marked_item())

    slots, marks = places(item["encoded"])
    assert slots == [("image", 0, 4), ("region", 0, 3), ("region", 1, 3)]
    assert marks == [("mask", 0), ("mask", 1), ("mask", 2)]
    assert corners(item["regions"]) == [DOG, CAT]
    assert corners(item["marked_regions"]) == [DOG, CAT, DOG]


def test_inputs_that_look_like_images_take_the_tokens_of_their_kind():
    counts = TokenCounts(dict(image=FixedTokenCount(4), region=FixedTokenCount(9)))
    encode = encoder()
    encode.context.token_count = counts
    view = ViewLayout((4, 4), (4, 4))
    views = SampleInputs.join([np.zeros((1, 3, 4, 4))] * 2, (view,) * 2)

    item = encode(dict(marked_item(), inputs=dict(region=views)))

    slots, _ = places(item["encoded"])
    assert [length for *_, length in slots] == [4, 9, 9]


def test_images_need_a_connector_of_theirs():
    encode = encoder()
    encode.context.modalities = ("region",)
    with pytest.raises(ValueError, match=r"it has 1 images, but the model takes none"):
        encode(marked_item())


def test_model_without_regions_reads_their_tokens_as_text():
    item = encoder(regions=0)(marked_item())

    slots, marks = places(item["encoded"])
    assert slots == [("image", 0, 4)] and len(marks) == 3
    assert corners(item["regions"]) == [DOG, CAT]


def test_prompt_keeps_what_it_shows_and_the_answer_what_is_asked_for():
    item = encoder(mode="generate")(marked_item())

    slots, marks = places(item["encoded"])
    assert len(slots) == 3 and marks == [("mask", 0)]
    assert corners(item["marked_regions"]) == [DOG]
    assert corners(item["gt_regions"]) == [CAT, DOG]


def test_template_without_questions_keeps_only_regions_of_answers():
    item = encoder("plain")(marked_item(ROUNDS[:2]))

    slots, marks = places(item["encoded"])
    assert slots == [("image", 0, 4)] and marks == [("mask", 0)]
    assert item["regions"] == () and corners(item["marked_regions"]) == [DOG]


def test_a_cut_takes_regions_and_marks_with_it():
    whole = encoder()(marked_item())["encoded"]
    last, slot = whole.marks[-1].stop, whole.slots[-1]

    def cut(limit, **options):
        options = dict(overflow="truncate_text") | options
        return encoder(max_length=limit, **options)(marked_item())

    kept = cut(last)
    assert kept["truncated_tokens"] == len(whole) - last
    assert places(kept["encoded"]) == places(whole) and not kept["dropped_regions"]
    # The last mask goes with its mark; so do a slot that is cut, and what follows.
    for limit, length, regions, marked in (
        (last - 1, whole.marks[-1].start, [DOG, CAT], [DOG, CAT]),
        (slot.start + 1, slot.start, [DOG], [DOG]),
    ):
        item = cut(limit)
        slots, marks = places(item["encoded"])
        assert len(item["encoded"]) == length == len(whole) - item["truncated_tokens"]
        assert len(slots) == 1 + len(regions) and len(marks) == len(marked)
        assert corners(item["regions"]) == regions
        assert corners(item["marked_regions"]) == marked
        assert item["dropped_regions"] == 5 - len(regions) - len(marked)
        assert encoder(max_length=limit, overflow="truncate_text").lengths(
            [marked_item()]
        ) == [length]
        with pytest.raises(SampleDropped):
            cut(limit, overflow="drop")
        with pytest.raises(ValueError, match=f"max_length={limit} would cut"):
            cut(limit, overflow="error")


def test_a_sample_that_loses_all_its_marks_is_left_out():
    first = encoder()(marked_item())["encoded"].marks[0].start

    with pytest.raises(SampleDropped, match="leaves no token that a head reads"):
        encoder(max_length=first, overflow="truncate_text")(marked_item())


def test_a_cut_selects_the_prepared_regions_too():
    item = marked_item()
    boxes = [r.boxes.xyxy.astype(np.float32) for r in item["regions"]]
    layouts = tuple(InputLayout("region", box.shape) for box in boxes)
    item["inputs"] = dict(region=SampleInputs.join(boxes, layouts, (0, 0)))
    slot = encoder()(marked_item())["encoded"].slots[-1]

    item = encoder(max_length=slot.start, overflow="truncate_text")(item)

    prepared = item["inputs"]["region"]
    assert len(prepared) == len(prepared.parent) == 1
    assert np.array_equal(prepared.values[0], boxes[0][0])


def test_slots_of_every_kind_may_count_as_one_token():
    whole = encoder()(marked_item())["encoded"]
    short = len(whole) - (4 - 1) - 2 * (3 - 1)

    item = encoder(max_length=short, count_images=False)(marked_item())

    assert len(item["encoded"]) == len(whole)
    assert encoder().lengths([marked_item(), marked_item()]) == [len(whole)] * 2


def test_regions_that_the_model_cannot_see_are_refused():
    def written(codec, taken, rounds=ROUNDS[:1]):
        transform = TRANSFORMS.build(dict(type="WriteRegions", codec=codec))
        bound = context(transform.codec)
        bound.modalities = taken
        transform.bind(bound)
        turns = [Turn(("user", "assistant")[n], tuple(r)) for n, r in enumerate(rounds)]
        return transform(
            dict(conversation=Conversation(turns, ["a.png"]), dataset="refs", index=3)
        )

    one = dict(type="RegionTokenCodec", token="<bbox>")
    with pytest.raises(ValueError, match=r"3 of refs: 1 region.*'<bbox>' alone.*\['im"):
        written(one, ("image",))
    with pytest.raises(ValueError, match=r"refs: 1 '<bbox>' in answers.*\(1 there\)"):
        written(one, ("image", "region"), ROUNDS[:2])
    # With coordinates, or with a token of their own for answers, all is well.
    for codec, taken in ((dict(type="FerretCodec"), ("image",)), (BBOX, ("region",))):
        assert len(written(codec, taken, ROUNDS[:2])["regions"]) == 1


def test_a_pipeline_without_prepared_regions_is_told_what_it_lacks():
    encode = encoder()
    encode.context.region_needs = RegionNeeds()

    with pytest.raises(ValueError, match=r"3 of refs: 2 'region' .*put PrepareRegions"):
        encode(marked_item())


def test_regions_of_an_image_that_is_not_shown_are_refused():
    item = encoder()(marked_item())
    boxes = [r.boxes.xyxy.astype(np.float32) for r in item["regions"]]
    layouts = tuple(InputLayout("region", box.shape) for box in boxes)
    item["views"] = [np.zeros((1, 3, 4, 4), np.uint8)]
    item["inputs"] = dict(region=SampleInputs.join(boxes, layouts, (0, 1)))
    packed = TRANSFORMS.build(dict(type="PackVLMInputs"))(item)

    with pytest.raises(
        ValueError, match=r"'s': an input of 'region' .* image 1.* 1 im"
    ):
        collate_flat([packed])


def test_regions_and_slots_that_differ_in_number_are_refused():
    item = encoder()(marked_item())
    boxes = [r.boxes.xyxy.astype(np.float32) for r in item["regions"][:1]]
    layouts = (InputLayout("region", boxes[0].shape),)
    item["views"] = [np.zeros((1, 3, 4, 4), np.uint8)]
    item["inputs"] = dict(region=SampleInputs.join(boxes, layouts, (0,)))

    with pytest.raises(
        ValueError, match=r"sample 's': 2 slots for 'region' .* 1 inputs"
    ):
        TRANSFORMS.build(dict(type="PackVLMInputs"))(item)


def test_marks_and_slots_of_joined_samples_point_at_their_tokens():
    encode, packed = encoder(), []
    for rounds in (ROUNDS, ROUNDS[:2], ROUNDS):
        item = encode(marked_item(rounds))
        boxes = [r.boxes.xyxy.astype(np.float32) for r in item["regions"]]
        layouts = tuple(InputLayout("region", box.shape) for box in boxes)
        item["views"] = [np.zeros((1, 3, 4, 4), np.uint8)]
        item["inputs"] = dict(region=SampleInputs.join(boxes, layouts))
        item["targets"] = dict(mask=[r.boxes.xyxy[0] for r in item["marked_regions"]])
        packed.append(TRANSFORMS.build(dict(type="PackVLMInputs"))(item))

    batch = collate_flat(packed)["inputs"]

    seg = encode.context.tokenizer.convert_tokens_to_ids("[SEG]")
    ids, targets = batch.text.input_ids, batch.targets["mask"]
    assert targets.rows.tolist() == (ids == seg).nonzero().flatten().tolist()
    assert targets.owner == (0, 0, 0, 1, 2, 2, 2)
    learnt = [tuple(row) for row in targets.values.values.tolist()]
    assert learnt == [DOG, CAT, DOG, DOG, DOG, CAT, DOG]
    filled = [batch.inputs[kind].slot_index for kind in ("image", "region")]
    places = sorted(int(place) for index in filled for place in index)
    assert places == (ids == SLOT_TOKEN_ID).nonzero().flatten().tolist()


def test_generation_keeps_the_answer_and_its_boxes():
    codec = CODECS.build(dict(type="ShikraCodec"))
    encode = TRANSFORMS.build(dict(type="EncodeConversation", mode="generate"))
    encode.bind(context(codec))
    item = write(talk([Text("Where?")], region(DOG)), codec)
    item = encode(dict(item, layouts=[ViewLayout((4, 4), (4, 4))]))

    assert item["gt_text"] == "[0.100,0.200,0.500,0.500]"
    found = codec.decode(item["gt_text"], SIZE).boxes(SIZE)
    assert found.iou(item["gt_boxes"])[0, 0] > 0.98


def jitter(conversation, seed=0, **options):
    transform = TRANSFORMS.build(dict(type="JitterRegions", **options))
    item = dict(conversation=conversation, rng=np.random.default_rng(seed))
    return transform(item)["conversation"]


def boxes_of(turn):
    return next(part for part in turn.parts if isinstance(part, Region)).boxes


def test_jitter_moves_boxes_of_questions_within_the_bound_and_the_image():
    conversation = talk([region(DOG)], region(CAT))
    overlaps = []
    for seed in range(200):
        moved = jitter(conversation, seed, scale=0.1, min_iou=0.6)
        box = boxes_of(moved.turns[0])
        overlaps.append(box.iou(boxes_of(conversation.turns[0]))[0, 0])
        np.testing.assert_array_equal(box.clip().xyxy, box.xyxy)
        assert moved.turns[1] is conversation.turns[1]

    assert 0.6 <= min(overlaps) < 0.75 and len(set(overlaps)) > 150
    first, again = (boxes_of(jitter(conversation, 5).turns[0]) for _ in range(2))
    assert first.xyxy.tolist() == again.xyxy.tolist()


def test_jitter_follows_the_stated_distribution():
    size = (1000, 1000)
    row = np.array([[400.0, 400, 500, 600]])
    conversation = Conversation([Turn("user", (Region(0, Boxes(row, size)),))])
    moves = [
        boxes_of(jitter(conversation, seed, scale=0.05, min_iou=0).turns[0]).xyxy - row
        for seed in range(2000)
    ]
    np.testing.assert_allclose(np.concatenate(moves).std(0), [5, 10, 5, 10], rtol=0.08)


def test_jitter_keeps_a_box_that_cannot_move_and_leaves_masks():
    conversation = talk([region(DOG)], region(CAT, kind="mask"))
    still = jitter(conversation, scale=0.5, min_iou=1.0, role="all")
    assert boxes_of(still.turns[0]).xyxy.tolist() == [[*DOG]]
    assert still.turns[1].parts == conversation.turns[1].parts

    point = talk([region((10, 10, 10, 10), kind="point")], Text("x"))
    moved = boxes_of(jitter(point).turns[0]).xyxy[0]
    assert moved[0] == moved[2] != 10


@pytest.mark.parametrize(
    "options", [dict(scale=-1), dict(min_iou=2), dict(tries=0), dict(role="system")]
)
def test_jitter_refuses_values_out_of_range(options):
    with pytest.raises(ValueError, match="JitterRegions: scale="):
        jitter(talk([region(DOG)], Text("x")), **options)
