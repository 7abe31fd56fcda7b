"""The layers that rounding disturbs most stay in float32, and OpenVINO honors it."""

import shutil

import numpy as np
import pytest
from engines_support import no_images, save_trunk

from fastcls.backend import import_keras
from fastcls.cache import checked_files
from fastcls.engines import kernels, openvino, sensitivity
from fastcls.engines.crops import crops
from fastcls.engines.openvino import Bfloat16Engine, OpenVINOEngine
from fastcls.engines.trunk import Trunk
from fastcls.errors import CacheError, ConversionError, InfidelityError, OptionError

SIZE = (96, 80)
SENSITIVE = "GroupConvolution 2"


@pytest.fixture(scope="module", autouse=True)
def _able():
    pytest.importorskip("openvino")
    try:
        Bfloat16Engine.require()
    except OptionError as error:
        pytest.skip(str(error))


def save_sensitive_trunk(folder, filters=256):
    """A trunk whose depthwise convolution takes small differences of large values, which bfloat16 holds.

    Rounding its weights shows.
    """
    keras = import_keras()
    keras.utils.set_random_seed(3)
    image = keras.Input((*SIZE, 3), dtype="uint8")
    identity = keras.layers.Conv2D(3, 1, use_bias=False)
    x = identity(keras.layers.Rescaling(1.0)(image))
    depthwise = keras.layers.DepthwiseConv2D(3, use_bias=False)
    x = keras.layers.AveragePooling2D(16)(depthwise(x))
    for _ in range(3):
        x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    weights = np.random.default_rng(0).normal(size=(3, 3, 3, 1)).astype(np.float32)
    identity.set_weights([np.eye(3, dtype=np.float32)[None, None]])
    weights += weights[::-1, ::-1]
    depthwise.set_weights([weights - weights.mean(axis=(0, 1))])
    path = folder / "trunk.keras"
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    checked_files.keep(path, model.save, of="")
    return path


@pytest.fixture(scope="module")
def sensitive(tmp_path_factory):
    path = save_sensitive_trunk(tmp_path_factory.mktemp("sensitive"))
    Bfloat16Engine.prepare(Trunk(path), no_images)
    return path


def median_error(path, engine):
    images = crops(SIZE)
    rows, reference = (kind(path, 1).run(images) for kind in (engine, OpenVINOEngine))
    return float(np.median(kernels.relative_errors(rows, reference)))


def test_the_sensitive_layer_stays_in_float32(sensitive):
    assert SENSITIVE in Bfloat16Engine.float32_layers(sensitive)
    assert median_error(sensitive, Bfloat16Engine) < sensitivity.LIMIT
    all_rounded = openvino._compile_for(OpenVINOEngine.place(sensitive), "bf16")(crops(SIZE))[0]
    exact = OpenVINOEngine(sensitive).run(crops(SIZE))
    assert np.median(kernels.relative_errors(all_rounded, exact)) > sensitivity.LIMIT


def test_the_rest_does_not(sensitive):
    compiled = openvino._compile_for(Bfloat16Engine.place(sensitive), "bf16")
    import openvino as ov

    found = kernels.kernels_of(ov.Core().read_model(Bfloat16Engine.place(sensitive)))
    exact = kernels.float32_ids(compiled)
    assert tuple(k.name for k in found if k.id in exact) == Bfloat16Engine.float32_layers(sensitive)
    assert len(exact & {kernel.id for kernel in found}) < len(found)


def test_no_layer_stays_where_nothing_is_disturbed(tmp_path):
    path = save_trunk(tmp_path)
    Bfloat16Engine.prepare(Trunk(path), no_images)
    assert Bfloat16Engine.float32_layers(path) == OpenVINOEngine.float32_layers(path) == ()


def test_the_choice_is_the_same_when_it_is_made_again_and_of_an_equal_base(sensitive, tmp_path):
    path = save_sensitive_trunk(tmp_path)  # whose layers Keras counts on
    Bfloat16Engine.prepare(Trunk(path), no_images)
    assert Bfloat16Engine.float32_layers(path) == Bfloat16Engine.float32_layers(sensitive)


def test_a_choice_that_was_made_before_is_kept(tmp_path):
    trunk = Trunk(save_trunk(tmp_path))
    trunk.float32_layers = ("Convolution 2",)
    Bfloat16Engine.prepare(trunk, no_images)
    assert Bfloat16Engine.float32_layers(trunk.path) == trunk.float32_layers
    assert Bfloat16Engine(trunk.path, 1).run(crops((24, 20), 3)).shape == (3, 16)


def test_a_trunk_that_no_affordable_layer_mends_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sensitivity, "_MOST_COST", 0.0)
    path = save_sensitive_trunk(tmp_path)
    with pytest.raises(InfidelityError, match=r"bfloat16 is too far .* 0 layers in float32.*--precision flo"):
        Bfloat16Engine.prepare(Trunk(path), no_images)
    assert Bfloat16Engine.damage(path) and not Bfloat16Engine.place(path).parent.exists()


def test_a_mark_that_openvino_ignores_is_found(sensitive, monkeypatch):
    monkeypatch.setattr(openvino.kernels, "float32_ids", lambda compiled: set())
    with pytest.raises(ConversionError, match="in bfloat16 here"):
        Bfloat16Engine(sensitive, 1)


def test_a_damaged_choice_is_refused(sensitive, tmp_path):
    path = shutil.copytree(sensitive.parent, tmp_path / "copy") / sensitive.name
    (Bfloat16Engine.place(path).parent / "float32-layers.json").write_text('{"layers": [], "ids": []}')
    for load in (Bfloat16Engine, Bfloat16Engine.float32_layers):
        with pytest.raises(CacheError, match=r"float32-layers\.json is damaged"):
            load(path)
    Bfloat16Engine.prepare(Trunk(path), no_images)
    assert Bfloat16Engine.float32_layers(path) == Bfloat16Engine.float32_layers(sensitive)


def test_a_sum_with_another_layer_is_not_marked(tmp_path):
    """OpenVINO loses the batch of such."""
    import openvino as ov

    keras = import_keras()
    image = keras.Input((*SIZE, 3), dtype="uint8")
    x = keras.layers.Conv2D(8, 1)(keras.layers.Rescaling(1 / 255)(image))
    y = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    y = keras.layers.Conv2D(8, 3, padding="same")(y)
    path = tmp_path / "trunk.keras"
    checked_files.keep(path, keras.Model(image, keras.layers.Add()([x, y])).save, of="")
    OpenVINOEngine.prepare(Trunk(path), no_images)
    found = kernels.kernels_of(ov.Core().read_model(OpenVINOEngine.place(path)))
    assert sum(kernel.can_be_marked for kernel in found) == 1


def test_cost_grows_with_what_is_in_float32(sensitive):
    import openvino as ov

    found = kernels.kernels_of(ov.Core().read_model(OpenVINOEngine.place(sensitive)))
    costs = [kernels.cost_of_float32(found, found[:count]) for count in range(len(found) + 1)]
    assert costs[0] == 0 and costs[-1] > 0.3
    assert kernels.cost_of_float32(found, found[1:3]) < sum(
        kernels.cost_of_float32(found, [kernel]) for kernel in found[1:3]
    )
