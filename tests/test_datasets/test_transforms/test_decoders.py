"""Every kind of file, good and bad, has one outcome, whatever decodes JPEG."""

import io
import os
import pickle
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import PIL.Image
import pytest

from mmvlm.datasets.transforms import decoders
from mmvlm.datasets.transforms.decoders import is_whole_jpeg, jpeg_decoder
from mmvlm.datasets.transforms.image import PadToSquare
from mmvlm.datasets.transforms.loading import LoadImages

_NOISE = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
IMAGE = PIL.Image.fromarray(_NOISE).resize((83, 61), PIL.Image.Resampling.BICUBIC)


def usable(name):
    try:
        return jpeg_decoder(name) is not None
    except RuntimeError:
        return False


FASTER = [name for name in ("opencv", "turbo", "auto") if usable(name)]
ALL = ["pil", *FASTER]


def load(*sources, root="", **options):
    talk = SimpleNamespace(images=sources)
    item = dict(conversation=talk, image_root=str(root), data_root=str(root))
    return LoadImages(**options)(item)


def outcome(source, **options):
    """The pixels, or the message of the error."""
    try:
        return load(source, **options)["images"][0]
    except ValueError as error:
        return str(error)


def saved(image=IMAGE, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation, kind="JPEG", **options):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return saved(kind=kind, exif=exif, **options)


def with_thumbnail():
    """A cut file whose thumbnail still has its end mark."""
    small = saved(IMAGE.resize((8, 8)))
    data = saved()
    return (
        data[:2] + b"\xff\xe5" + (len(small) + 2).to_bytes(2, "big") + small + data[2:]
    )


def animation():
    frames = [PIL.Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


def sixteen_bit():
    wide = np.linspace(0, 65535, 60).reshape(6, 10).astype(np.uint16)
    return saved(PIL.Image.fromarray(wide), "PNG")


FILES = {
    "jpeg": saved,
    "jpeg 4:4:4": lambda: saved(subsampling=0),
    "jpeg progressive": lambda: saved(progressive=True),
    "jpeg restarts": lambda: saved(restart_marker_blocks=2),
    "jpeg grey": lambda: saved(IMAGE.convert("L")),
    "jpeg cmyk": lambda: saved(IMAGE.convert("CMYK")),
    "jpeg rgb colours": lambda: saved(keep_rgb=True),
    "jpeg turned": lambda: turned(6),
    "jpeg with a tail": lambda: saved() + b"tail",
    "jpeg with a thumbnail": with_thumbnail,
    "png": lambda: saved(kind="PNG"),
    "png palette": lambda: saved(IMAGE.quantize(16), "PNG"),
    "png alpha": lambda: saved(IMAGE.convert("RGBA"), "PNG"),
    "png 16 bit": sixteen_bit,
    "webp": lambda: saved(kind="WEBP"),
    "bmp": lambda: saved(kind="BMP"),
    "tiff": lambda: saved(kind="TIFF"),
    "tiff cmyk": lambda: saved(IMAGE.convert("CMYK"), "TIFF"),
    "gif": animation,
    "cut": lambda: saved()[:-300],
    "cut behind the image": lambda: saved()[:-2],
    "cut in the header": lambda: saved()[:150],
    "cut with a thumbnail": lambda: with_thumbnail()[:-300],
    "cut png": lambda: saved(kind="PNG")[:-300],
    "empty": lambda: b"",
    "text": lambda: b"I am text",
    "name only": lambda: b"\xff\xd8\xff",
}


@pytest.mark.parametrize("decoder", FASTER)
@pytest.mark.parametrize("kind", FILES)
def test_every_kind_of_file_has_the_outcome_that_pil_gives(kind, decoder, tmp_path):
    data = FILES[kind]()
    (tmp_path / "x").write_bytes(data)

    wanted, found = outcome(data), outcome(data, decoder=decoder)
    by_name = [outcome("x", root=tmp_path, decoder=name) for name in ("pil", decoder)]

    assert isinstance(wanted, str) == kind.startswith(("cut", "empty", "text", "name"))
    for first, second in ((wanted, found), by_name):
        assert type(first) is type(second)
        if isinstance(first, str):
            assert first == second
        else:
            # One libjpeg may round otherwise than another.
            assert first.shape == second.shape
            assert np.abs(first.astype(int) - second).max() <= 2


@pytest.mark.parametrize("decoder", ALL)
def test_orientation_counts_only_when_asked(decoder):
    for orientation in range(1, 9):
        data = turned(orientation)
        with PIL.Image.open(io.BytesIO(data)) as image:
            stored = np.asarray(image)
            upright = np.asarray(PIL.ImageOps.exif_transpose(image))

        assert np.array_equal(outcome(data, decoder=decoder), stored)
        assert np.array_equal(outcome(data, decoder=decoder, exif="apply"), upright)


@pytest.mark.parametrize("decoder", ALL)
def test_bombs_are_refused_before_decoding(decoder):
    data = saved()

    with pytest.raises(ValueError, match=r"too large: 83 x 61 pixels, more than"):
        load(data, decoder=decoder, max_pixels=83 * 61 - 1)
    # A header that claims 65,535 x 65,535 pixels costs no memory.
    place = data.index(b"\xff\xc0") + 5
    bomb = data[:place] + b"\xff\xff\xff\xff" + data[place + 4 :]
    with pytest.raises(ValueError, match="is too large"):
        load(bomb, decoder=decoder)


@pytest.mark.parametrize("decoder", FASTER)
def test_mutated_files_have_the_outcome_that_pil_gives(decoder):
    rng = np.random.default_rng(0)
    sources = [saved(), saved(progressive=True), saved(IMAGE.convert("L"))]
    broken = 0
    for number in range(300):
        data = bytearray(sources[number % 3])
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(2, len(data))] = rng.integers(256)
        data = bytes(data[: rng.integers(2, len(data))] if number % 4 == 0 else data)

        wanted, found = outcome(data), outcome(data, decoder=decoder)

        broken += isinstance(wanted, str)
        assert type(wanted) is type(found), (number, wanted, found)
        assert np.array_equal(wanted, found), number
    assert 50 < broken < 250


@pytest.mark.parametrize("decoder", ALL)
@pytest.mark.parametrize("exif", ["ignore", "apply"])
def test_draft_halves_pixels_and_keeps_geometry(decoder, exif):
    """A mark in the large image is found where the layout says."""
    pixels = np.full((402, 563, 3), 40, np.uint8)
    pixels[100:140, 400:440] = 250
    tag = PIL.Image.Exif()
    tag[0x0112] = 6
    data = saved(PIL.Image.fromarray(pixels), exif=tag, quality=95)
    full = load(data, decoder=decoder, exif=exif)["images"][0]
    whole = full[..., 0] > 150

    item = load(data, decoder=decoder, exif=exif, draft=100)

    (image,), (size,) = item["images"], item["image_sizes"]
    assert size == full.shape[:2] and image.shape[0] == -(-full.shape[0] // 4)
    item = PadToSquare(64, (0, 0, 0), "bicubic")(item)
    (layout,), view = item["layouts"], item["views"][0][0, 0]
    assert layout.original_size == size
    rows, columns = np.nonzero(view > 120)
    wanted = [np.mean(axis) + 0.5 for axis in np.nonzero(whole)]
    found = [np.mean(rows) + 0.5, np.mean(columns) + 0.5]
    for axis, place in enumerate(found):
        expected = wanted[axis] * layout.scale[1 - axis] + layout.offset[1 - axis]
        assert place == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize("decoder", ALL)
def test_draft_waits_for_twice_the_size(decoder):
    data = saved(IMAGE.resize((160, 120)))
    for draft, side in ((61, 120), (60, 60), (31, 60), (30, 30), (15, 15), (4, 15)):
        (image,) = load(data, decoder=decoder, draft=draft)["images"]
        assert image.shape[0] == side, draft
    png = load(saved(kind="PNG"), decoder=decoder, draft=4)
    assert png["images"][0].shape[:2] == png["image_sizes"][0] == (61, 83)


def test_draft_of_all_decoders_is_one_image():
    data = saved(IMAGE.resize((331, 243)))
    wanted = outcome(data, draft=60)

    for decoder in FASTER:
        found = outcome(data, decoder=decoder, draft=60)
        assert np.abs(wanted.astype(int) - found).max() <= 2


def test_links_are_followed_by_name_only_paths_are_checked(tmp_path):
    """Data folders are often made of links; what leaves by name is refused."""
    outside, inside = tmp_path / "outside", tmp_path / "data"
    outside.mkdir(), inside.mkdir()
    IMAGE.save(outside / "x.png")
    os.symlink(outside / "x.png", inside / "link.png")

    assert load("link.png", root=inside)["images"][0].shape == (61, 83, 3)
    with pytest.raises(ValueError, match="leaves the folder"):
        load("../outside/x.png", root=inside)


def test_names_are_checked_at_once():
    with pytest.raises(ValueError, match="decoder='gpu': expected one of"):
        LoadImages(decoder="gpu")
    with pytest.raises(ValueError, match="draft=0: expected a number of pixels"):
        LoadImages(draft=0)


@pytest.fixture
def modules(monkeypatch):
    """Bindings to be found: none unless the test adds one."""
    for name in (*decoders._TURBO, "torchvision", "cv2"):
        monkeypatch.setitem(sys.modules, name, None)
    jpeg_decoder.cache_clear()

    def add(name, **content):
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)

    yield add
    jpeg_decoder.cache_clear()


def test_a_decoder_that_is_missing_is_an_error_when_named(modules):
    for name, module in (("opencv", "cv2"), ("turbo", "simplejpeg")):
        with pytest.raises(
            RuntimeError, match=rf"decoder='{name}' cannot be used here \({module}: "
        ):
            LoadImages(decoder=name)
    assert jpeg_decoder("auto") is None


def test_a_decoder_that_does_not_decode_is_not_taken(modules):
    modules("cv2", **{n: 0 for n in ("IMREAD_COLOR", "IMREAD_IGNORE_ORIENTATION")})
    with pytest.raises(RuntimeError, match="cv2: module 'cv2' has no attribute"):
        jpeg_decoder("opencv")
    modules(
        "simplejpeg",
        decode_jpeg_header=lambda data: (7, 9, "YCbCr", "420"),
        decode_jpeg=lambda *_, **__: np.zeros((7, 9, 3), np.uint8),
    )
    with pytest.raises(RuntimeError, match="simplejpeg: it can be imported, but does"):
        jpeg_decoder("turbo")


def test_the_binding_is_asked_for_rgb_and_a_scale(modules):
    asked = []

    def decode_jpeg(data, colorspace, **scale):
        asked.append((colorspace, scale))
        image = PIL.Image.open(io.BytesIO(data))
        return np.asarray(image.reduce(scale["min_factor"]))

    modules(
        "simplejpeg",
        decode_jpeg=decode_jpeg,
        decode_jpeg_header=lambda d: (*PIL.Image.open(io.BytesIO(d)).size[::-1], ""),
    )

    decode = jpeg_decoder("turbo")
    half = decode(saved(), 2)

    assert half.shape == (31, 42, 3)
    assert asked[-1] == ("RGB", dict(min_height=31, min_width=42, min_factor=2))


def test_end_marks_are_those_of_the_image():
    data = with_thumbnail()
    scan = data.rindex(b"\xff\xda")

    assert is_whole_jpeg(data, scan) and is_whole_jpeg(data + b"\xff\xc0", scan)
    assert not is_whole_jpeg(data[:-2], scan)
    assert not is_whole_jpeg(data[:-2] + b"\xff\xc0\xff\xd9", scan)
    assert not is_whole_jpeg(b"", 0)


@pytest.mark.parametrize("decoder", ALL)
def test_loaders_go_to_workers(decoder):
    step = pickle.loads(pickle.dumps(LoadImages(decoder=decoder, draft=30)))

    item = step(dict(conversation=SimpleNamespace(images=[saved()])))

    assert item["images"][0].shape == (31, 42, 3)
