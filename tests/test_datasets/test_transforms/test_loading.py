import io

import cv2
import numpy as np
import PIL.Image
import pytest

from mmvlm.datasets.transforms import loading
from mmvlm.datasets.transforms.loading import LoadImages, resolve_image_path
from mmvlm.structures import Conversation

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 10, 3), np.uint8)


def load(*images, root="", data_root="", **options):
    talk = Conversation.from_texts("q", "a", images=images)
    item = dict(conversation=talk, image_root=str(root), data_root=str(data_root))
    return LoadImages(**options)(item)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def reference(image):
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "RGBA", "LA"])
def test_modes_become_rgb_as_llava_does(mode, tmp_path):
    image = PIL.Image.fromarray(PIXELS).convert(mode)
    name = "x.tif" if mode == "CMYK" else "x.png"
    image.save(tmp_path / name)

    item = load(name, root=tmp_path)

    with PIL.Image.open(tmp_path / name) as stored:
        assert np.array_equal(item["images"][0], reference(stored))
    assert item["images"][0].dtype == np.uint8
    assert item["image_paths"] == [str(tmp_path / name)]


def test_palette_with_transparency_drops_alpha(recwarn):
    palette = PIL.Image.fromarray(PIXELS).quantize(8)
    data = encoded(palette, transparency=bytes(range(0, 160, 20)))

    (image,) = load(data)["images"]

    assert np.array_equal(image, reference(palette)) and not recwarn.list


def test_background_shows_through_alpha():
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0] = (10, 20, 30, 255)
    data = encoded(PIL.Image.fromarray(rgba))

    (plain,) = load(data)["images"]
    (laid,) = load(data, background=(255, 0, 0))["images"]

    assert plain[1, 0].tolist() == [0, 0, 0] and laid[1, 0].tolist() == [255, 0, 0]
    assert plain[0, 0].tolist() == laid[0, 0].tolist() == [10, 20, 30]


def test_sixteen_bit_is_scaled():
    wide = np.array([[0, 257, 32896, 65535]], np.uint16)

    (image,) = load(encoded(PIL.Image.fromarray(wide)))["images"]

    assert image[0, :, 0].tolist() == [0, 1, 128, 255]
    assert (image == image[..., :1]).all()


def test_exif_orientation_is_an_option():
    image = PIL.Image.fromarray(PIXELS)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    data = encoded(image, exif=exif)

    (stored,) = load(data)["images"]
    (turned,) = load(data, exif="apply")["images"]

    assert np.array_equal(stored, PIXELS)
    assert np.array_equal(turned, np.rot90(PIXELS, -1))


def test_memory_is_taken_as_it_is():
    item = load(
        PIXELS, PIL.Image.fromarray(PIXELS), encoded(PIL.Image.fromarray(PIXELS))
    )

    assert all(np.array_equal(image, PIXELS) for image in item["images"])
    assert item["images"][0] is PIXELS and item["image_paths"] == [None] * 3


def test_first_frame_of_an_animation(tmp_path):
    frames = [PIL.Image.new("RGB", (4, 4), c) for c in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])

    (image,) = load("x.gif", root=tmp_path)["images"]

    assert image[0, 0].tolist() == [255, 0, 0]


def test_text_only_sample_has_no_images():
    item = load()

    assert item["images"] == [] and item["image_paths"] == []


def test_missing_folder_and_text_file_are_named(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.jpg").write_text("I am text")
    (tmp_path / "empty.jpg").write_bytes(b"")

    for name, message in (
        ("none.jpg", r"image '.*none\.jpg' does not exist"),
        ("folder", r"image '.*folder' is a folder"),
        ("text.jpg", r"text\.jpg' is not an image: it starts with b'I am text'"),
        ("empty.jpg", r"empty\.jpg' is not an image: it is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            load(name, root=tmp_path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_cut_file_is_one_clear_error(kind, tmp_path):
    noise = RNG.integers(0, 256, (60, 60, 3), np.uint8)
    data = encoded(PIL.Image.fromarray(noise), kind)
    (tmp_path / "cut.img").write_bytes(data[: len(data) * 2 // 3])

    with pytest.raises(
        ValueError, match=r"image '.*cut\.img' .*(cannot be|is not an image)"
    ):
        load("cut.img", root=tmp_path)


def test_damaged_png_is_one_clear_error(tmp_path):
    data = bytearray(encoded(PIL.Image.fromarray(PIXELS)))
    data[50:70] = bytes(20)
    (tmp_path / "x.png").write_bytes(bytes(data))

    with pytest.raises(ValueError, match=r"image '.*x\.png' .*cannot be decoded"):
        load("x.png", root=tmp_path)


def test_too_large_image_is_refused_before_decoding(tmp_path, monkeypatch):
    PIL.Image.fromarray(PIXELS).save(tmp_path / "x.png")

    with pytest.raises(
        ValueError,
        match=r"x\.png' is too large: 10 x 6 pixels, more than max_pixels=59",
    ):
        load("x.png", root=tmp_path, max_pixels=59)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(ValueError, match=r"x\.png' is too large: .*decompression bomb"):
        load("x.png", root=tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"number 0': expected an \(H, W, 3\) uint8"),
        (np.zeros((4, 4, 3), np.float32), r"got \(4, 4, 3\) float32"),
        (7, "expected a path, bytes, a PIL image or an array, got int"),
        (b"hello", "number 0' is not an image: it starts with b'hello'"),
        (PIL.Image.new("F", (2, 2)), "a float image has no defined range"),
        (
            PIL.Image.fromarray(np.full((2, 2), 70000, np.int32)),
            r"values lie outside 0\.\.65535",
        ),
    ],
)
def test_unusable_sources_are_named(source, message):
    with pytest.raises(ValueError, match=message):
        load(source)


def test_unknown_exif_policy_is_refused():
    with pytest.raises(ValueError, match="exif='turn': expected 'ignore' or 'apply'"):
        LoadImages(exif="turn")


@pytest.mark.parametrize(
    ("path", "image_root", "data_root", "expected"),
    [
        ("a/b.jpg", "data/img", "data", "data/img/a/b.jpg"),
        ("../other/b.jpg", "data/img", "data", "data/other/b.jpg"),
        ("b.jpg", "", "", "b.jpg"),
        ("..b.jpg", "data", "data", "data/..b.jpg"),
        ("b.jpg", "/elsewhere/img", "data", "/elsewhere/img/b.jpg"),
        ("../../b.jpg", "data/img", "data", None),
        ("../b.jpg", "/elsewhere/img", "data", None),
        ("../b.jpg", "", "", None),
        ("/etc/passwd", "data", "data", None),
        ("a\0b", "data", "data", None),
    ],
)
def test_paths_stay_in_the_data_folder(path, image_root, data_root, expected):
    if expected is None:
        with pytest.raises(ValueError, match="leaves the folder"):
            resolve_image_path(path, image_root, data_root)
    else:
        assert resolve_image_path(path, image_root, data_root) == expected


def test_twelve_bits_in_sixteen_keep_their_range_and_are_told_once(monkeypatch):
    told = []
    monkeypatch.setattr(loading, "_logged", set())
    monkeypatch.setattr(loading, "print_log", lambda text, **_: told.append(text))
    wide = np.array([[0, 1024, 4095]], np.uint16)
    colour = np.repeat(wide[..., None], 3, axis=2)

    grey = [load(encoded(PIL.Image.fromarray(wide)))["images"][0] for _ in range(2)]
    rgb = load(cv2.imencode(".png", colour)[1].tobytes())["images"][0]
    stored = load(encoded(PIL.Image.fromarray(wide)), depth=16)["images"][0]

    for image in (*grey, rgb):
        assert image[0].tolist() == [[0] * 3, [63] * 3, [255] * 3]
    assert stored[0, :, 0].tolist() == [0, 3, 15]
    assert len(told) == 1 and "brightest value is 4095: read as 12 bits" in told[0]
    with pytest.raises(ValueError, match="4095 needs more than 10 bits"):
        load(encoded(PIL.Image.fromarray(wide)), depth=10)


def test_another_ending_is_named_and_taken_on_request(tmp_path):
    PIL.Image.fromarray(PIXELS).convert("P").save(tmp_path / "1.gif")

    with pytest.raises(ValueError, match=r"does not exist, but '1\.gif' lies there"):
        load("1.jpg", root=tmp_path)
    item = load("1.jpg", root=tmp_path, any_suffix=True)
    assert item["image_paths"] == [str(tmp_path / "1.gif")]
    PIL.Image.fromarray(PIXELS).save(tmp_path / "1.png")
    with pytest.raises(ValueError, match=r"'1\.png', '1\.gif' lies there"):
        load("1.jpg", root=tmp_path, any_suffix=True)


def test_absolute_paths_and_uris_inside_the_folder_are_taken(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    path = str(tmp_path / "data" / "a b.png")

    for named in (path, f"file://{path.replace(' ', '%20')}"):
        for root in (tmp_path / "data", tmp_path / "link"):
            assert resolve_image_path(named, str(root), str(root)) == path
    with pytest.raises(ValueError, match="leaves the folder"):
        resolve_image_path("file:///etc/passwd", str(tmp_path), str(tmp_path))
