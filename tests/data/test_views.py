"""Augmented views: what a recipe says, and pixels that are the same everywhere."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from fastcls import files
from fastcls.data.views import augment, make_view, row_key
from fastcls.errors import OptionError
from fastcls.specs import OPERATIONS, RECIPES, Recipe, ViewSpec

WILD = ViewSpec(4, "flip,vflip,crop=0.5,perspective=0.1,rotate=30,translate=0.1,shear=10,scale=0.2,hue=20")
GRAY = (0.299, 0.587, 0.114)


def noise(height=40, width=60, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def smooth(side=64):
    """A picture without edges, whose interpolation is nearly exact."""
    y, x = np.mgrid[:side, :side] / side
    waves = [np.sin(4 * x + 3 * y), np.cos(5 * x * y), np.sin(2 * x - 3 * y)]
    return np.rint(127.5 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)


def done(image, key=("x",), **operations):
    return augment(image, Recipe(**operations), key)


# What the operations do


def test_augment__a_recipe_that_does_nothing_gives_the_image_itself():
    image = noise()
    before = image.copy()
    assert all(augment(image, Recipe(), (number,)) is image for number in range(20))
    augment(image, Recipe.parse(RECIPES["photos"]), (1,))
    np.testing.assert_array_equal(image, before)


def test_augment__flips_and_quarter_turns_are_those_of_numpy():
    image, square = noise(), noise(50, 50)
    np.testing.assert_array_equal(done(image, flip=1.0), image[:, ::-1])
    np.testing.assert_array_equal(done(image, vflip=1.0), image[::-1])
    np.testing.assert_array_equal(done(image, flip=1.0, vflip=1.0), image[::-1, ::-1])
    np.testing.assert_array_equal(done(square, rotate=(90, 90)), np.rot90(square))
    np.testing.assert_array_equal(done(image, rotate=(180, 180)), np.rot90(image, 2))


def test_augment__flip_has_its_probability():
    image = noise(2, 3)
    flipped = [not np.array_equal(done(image, (key,), flip=0.3), image) for key in range(1000)]
    assert 250 < sum(flipped) < 350


def test_augment__moves_by_shares_of_the_sides_and_mirrors_what_is_beyond():
    image = noise(40, 60)
    moved = done(image, translate=(0.1, 0.1))
    np.testing.assert_array_equal(moved[4:, 6:], image[:-4, :-6])
    np.testing.assert_array_equal(moved[4:, 5::-1], moved[4:, 7:13])


def test_augment__crop_is_a_box_of_that_area_scaled_up():
    image = smooth()
    for key in range(10):
        cropped = done(image, (key,), crop=(0.25, 0.25)).astype(int)
        candidates = [
            np.abs(cropped - cv2.resize(image[top : top + 32, left : left + 32], (64, 64))).mean()
            for top in range(33)
            for left in range(33)
        ]
        assert min(candidates) < 2.5 < np.median(candidates)  # the box need not begin at a whole pixel


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_augment__scale_is_about_the_center(factor):
    image = smooth()
    scaled = done(image, scale=(factor, factor)).astype(int)
    if factor > 1:
        expected, inner = cv2.resize(image[16:48, 16:48], (64, 64)), slice(2, -2)
        assert np.abs(scaled - expected)[inner, inner].max() <= 2
    else:
        assert np.abs(scaled[16:48, 16:48] - cv2.resize(image, (32, 32))).max() <= 2


def test_augment__shear_leans_to_the_right():
    image = np.zeros((101, 101, 3), np.uint8)
    image[:, 50] = 255
    leaning = done(image, shear=(45, 45))
    assert [int(leaning[row, :, 0].argmax()) for row in (20, 50, 80)] == [80, 50, 20]


def test_augment__perspective_moves_the_corners_inward():
    image = np.zeros((100, 100, 3), np.uint8)
    image[:10, :10] = image[-10:, -10:] = 255
    moved = done(image, perspective=(0.2, 0.2))[..., 0]
    # All four corners inward by the same: a smaller image, mirrored around.
    expected = cv2.resize(image, (60, 60), interpolation=cv2.INTER_AREA)[..., 0]
    assert np.abs(moved[20:80, 20:80].astype(int) - expected).mean() < 4
    assert not np.array_equal(done(image, perspective=(-0.2, 0.2)), image)


@pytest.mark.parametrize(
    ("operations", "formula"),
    [
        ({"gamma": (2, 2)}, lambda x: 255 * (x / 255) ** 2),
        ({"brightness": (1.5, 1.5)}, lambda x: 1.5 * x),
        ({"contrast": (0.5, 0.5)}, lambda x: 0.5 * x + 0.5 * (x @ GRAY).mean()),
        ({"contrast": (3, 3)}, lambda x: 3 * x - 2 * (x @ GRAY).mean()),
        ({"color": (0, 0)}, lambda x: np.repeat((x @ GRAY)[..., None], 3, axis=-1)),
        ({"color": (2, 2)}, lambda x: 2 * x - (x @ GRAY)[..., None]),
        (
            {"gamma": (0.5, 0.5), "brightness": (0.5, 0.5), "color": (0, 0)},
            lambda x: np.repeat(0.5 * (255 * (x / 255) ** 0.5 @ GRAY)[..., None], 3, axis=-1),
        ),
    ],
)
def test_augment__colors_by_formula(operations, formula):
    image = noise()
    expected = np.clip(formula(image.astype(float)), 0, 255)
    assert np.abs(done(image, **operations) - expected).max() < 0.51  # rounded once


def test_augment__hue_turns_the_color_wheel_and_leaves_gray():
    gray = np.repeat(noise()[..., :1], 3, axis=-1)
    np.testing.assert_array_equal(done(gray, hue=(70, 70)), gray)
    color = np.full((4, 4, 3), (150, 110, 100), np.uint8)
    turned = done(color, hue=(120, 120))
    assert np.abs(turned @ GRAY - color @ GRAY).max() < 1
    back = done(turned, hue=(-120, -120))
    assert np.abs(back.astype(int) - color).max() <= 1 and np.abs(turned.astype(int) - color).max() > 20


@pytest.mark.parametrize("added", sorted(set(OPERATIONS) - {"flip"}))
def test_augment__an_operation_that_is_added_does_not_change_another(added):
    image = noise()
    known = OPERATIONS[added]
    near = sorted((known.neutral, known.neutral + (-1e-9 if added == "crop" else 1e-9)))
    idle = {added: known.neutral if known.lone == "x" else tuple(near)}
    for key in range(8):
        before, after = done(image, (key,), flip=0.5), done(image, (key,), flip=0.5, **idle)
        assert np.abs(before.astype(int) - after).max() <= 1


# The same everywhere


def test_make_view__is_the_same_in_any_thread_order_and_process():
    image, digest = noise(), files.digest(b"an image")
    views = [make_view(image, digest, WILD, number) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        numbers = [3, 1, 0, 2] * 20
        again = list(pool.map(lambda number: make_view(image, digest, WILD, number), numbers))
    assert all(np.array_equal(views[number], view) for number, view in zip(numbers, again, strict=True))
    code = (
        "import numpy as np; from fastcls import files; from fastcls.specs import ViewSpec\n"
        "from fastcls.data.views import make_view, row_key\n"
        "image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)\n"
        f"views, digest = {WILD!r}, {digest!r}\n"
        "for number in range(4):\n"
        "    print(row_key(digest, views, number))\n"
        "    print(files.digest(make_view(image, digest, views, number).tobytes()))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    told = told.split()
    assert told[::2] == [row_key(digest, WILD, number) for number in range(4)]
    assert told[1::2] == [files.digest(view.tobytes()) for view in views]


def test_make_view__differs_by_image_number_seed_and_recipe():
    image, one, other = noise(), files.digest(b"1"), files.digest(b"2")
    np.testing.assert_array_equal(make_view(image, one, WILD, 0), image)
    seeded, bent = ViewSpec(4, WILD.augment, view_seed=1), ViewSpec(4, "photos")
    asked = [(one, WILD, 1), (one, WILD, 2), (other, WILD, 1), (one, seeded, 1), (one, bent, 1)]
    assert len({make_view(image, *each).tobytes() for each in asked}) == len(asked)
    assert len({row_key(*each) for each in asked}) == len(asked)
    assert row_key(one, WILD, 0) == one
    # A larger set begins with the views of a smaller one.
    assert row_key(one, ViewSpec(9, WILD.augment), 3) == row_key(one, WILD, 3)


# What a recipe says


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("photos", str(Recipe.parse(RECIPES["photos"]))),
        (" rotate=15 , flip ", "flip=0.5,rotate=-15:15"),
        ("contrast=0.2,crop=0.6,scale=0.1:10", "crop=0.6:1,scale=0.1:10,contrast=0.8:1.2"),
        ("flip=0,gamma=1:1,hue=-0.0:5.50", "hue=0:5.5"),
        ("rotate=90:90", "rotate=90:90"),
    ],
)
def test_recipe__has_one_canonical_text(text, canonical):
    recipe = Recipe.parse(text)
    assert str(recipe) == canonical and Recipe.parse(canonical) == recipe


@pytest.mark.parametrize(
    "text",
    [
        *("", "photo", "flip,flip", "rotate", "rotate=200", "rotate=5:1", "rotate=1:2:3", "rotate=nan"),
        *("flip=0.2:0.5", "flip=2", "crop=0:1", "scale=1", "gamma=a", "perspective=0.5", "flip=0.5;rotate=5"),
    ],
)
def test_recipe__what_is_wrong_is_answered_with_what_is_known(text):
    with pytest.raises(OptionError) as error:
        Recipe.parse(text)
    assert all(f"{name}=" in str(error.value) for name in OPERATIONS)
    assert "rotate=-180:180" in str(error.value) and "known recipes: photos" in str(error.value)


def test_view_spec__a_single_view_is_the_plain_one_whatever_else_is_said():
    assert ViewSpec(1, "rotate=5", 7) == ViewSpec()
    assert ViewSpec(2, "flip,rotate=5") == ViewSpec(2, "rotate=-5:5,flip=0.5")
    with pytest.raises(OptionError, match="changes nothing: all views would be the same"):
        ViewSpec(2, "flip=0,gamma=1:1")
    with pytest.raises(OptionError, match="views must be 1 or more"):
        ViewSpec(0)
    assert [ViewSpec(5).of_split(split) for split in ("train", "", "val", "test")] == [5, 5, 1, 1]
