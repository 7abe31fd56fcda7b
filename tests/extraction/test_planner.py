"""A plan tells what the extraction then does, and does nothing itself."""

import random
from dataclasses import replace

import h5py
import pytest
from extraction_support import encoded, save_model, write_images
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

from fastcls.bases import loader
from fastcls.data.dataset import Dataset
from fastcls.engines.trunk import Trunk
from fastcls.errors import FastclsError, OptionError
from fastcls.extraction import extractor, planner, reading
from fastcls.extraction.extractor import extract, extract_planned, extract_several
from fastcls.extraction.planner import plan_extraction
from fastcls.specs import ENGINES, BaseSpec, CutSpec, ExtractConfig, ViewSpec

INLINE = ExtractConfig(engine="tensorflow", executor="inline", batch_size=2, shard_size=4)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    save_model(path)
    return path


@pytest.fixture
def cuts(model_path):
    base = BaseSpec(str(model_path), size=(8, 8))
    return [CutSpec(base, layer, precision="float32") for layer in ("first", "second")]


def everything_in(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.usefixtures("young_files_trusted")
def test_plan__tells_what_the_extraction_then_does(cuts, data, root, seed):
    """Whatever was cached before, renamed or found unreadable."""
    numbers = random.Random(seed)
    write_images(data, 14)
    for cut in numbers.sample(cuts, numbers.randint(0, 2)):
        some = numbers.sample(sorted(data.rglob("*.png")), numbers.randint(1, 12))
        dataset = Dataset.open(data)
        kept = [sample for sample in dataset.samples if dataset.locate(sample) in some]
        extract(replace(dataset, samples=tuple(kept)), cut, root, INLINE)
        (data / "b" / "broken.png").write_bytes(b"no image")
        if numbers.random() < 0.5:
            extract(Dataset.open(data), cut, root, INLINE)
        else:
            (data / "b" / "broken.png").unlink()
    if numbers.random() < 0.5:
        (data / "a" / "000000.png").rename(data / "a" / "renamed.png")
    dataset, views = Dataset.open(data), ViewSpec(numbers.choice([1, 3]), "flip")
    asked = numbers.sample(cuts, numbers.randint(1, 2))
    before = everything_in(root)
    plan = plan_extraction(dataset, asked, root, INLINE, views=views)
    told, text = (
        [(cut.to_forward, cut.outline.shape, cut.outline.dtype, cut.outline.has_tail) for cut in plan.cuts],
        str(plan),
    )
    assert everything_in(root) == before and all(f"{row[0]} image" in text for row in told)
    done = extract_planned(plan)
    assert told == [
        (made.forwarded, cache.manifest.shape, cache.manifest.dtype, bool(cache.manifest.tail_digest))
        for cache, made in done
    ]
    for cut, (cache, made) in zip(plan.cuts, done, strict=True):
        assert cut.cache is None or cut.cache.folder == cache.folder
        if made.engine:
            assert (made.engine, cache.manifest.precision) == ("tensorflow", plan.candidates[0].precision)
            assert made.resources == str(plan.resources)
    again = plan_extraction(dataset, asked, root, INLINE, views=views)
    assert again.is_complete and again.candidates == () and again.resources is None
    assert [cut.to_forward for cut in again.cuts] == [0] * len(asked)


@pytest.mark.parametrize(
    ("change", "config", "complaint"),
    [
        ({"layer": "third"}, INLINE, "no layer 'third'"),
        ({"precision": "int8"}, INLINE, "only openvino can"),
        ({}, ExtractConfig(engine="nowhere:Engine"), "'nowhere:Engine' cannot be imported"),
    ],
)
def test_plan__refuses_what_the_extraction_refuses_and_leaves_nothing(
    cuts, data, root, change, config, complaint
):
    asked = (write_images(data, 2), [replace(cuts[0], **change)], root, config)
    for act in (plan_extraction, extract_several):
        with pytest.raises(FastclsError, match=complaint):
            act(*asked)
        assert not root.exists() or not list(root.iterdir())


def test_plan__refuses_a_place_and_a_name_that_cannot_be(cuts, data, root):
    dataset = write_images(data, 2)
    root.write_text("a file")
    with pytest.raises(OptionError, match="not a folder"):
        plan_extraction(dataset, cuts, root, INLINE)
    with pytest.raises(OptionError):
        plan_extraction(dataset, cuts, data, INLINE, name="../up")


def test_plan__downloads_forwards_and_writes_nothing(data, root, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("no weights, no rows")

    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(root.parent / "no weights"))
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", fail)
    monkeypatch.setattr(Trunk, "run", fail)
    monkeypatch.setattr(extractor, "find_executor", fail)
    cut = CutSpec(BaseSpec("mobilenetv2", size=(32, 32)))
    plan = plan_extraction(write_images(data, 3), [cut], root, INLINE)
    assert "3 images to forward" in str(plan) and plan.cuts[0].outline.shape == (1280,)
    assert not root.exists()


def test_plan__hands_on_the_base_that_it_has_built(data, root, tmp_path, monkeypatch):
    """Weights that Keras has downloaded before are loaded for the plan."""
    base = BaseSpec("mobilenetv2", size=(32, 32))
    model = loader.load_base(replace(base, weights="random")).model
    weights = tmp_path / "models" / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
    weights.parent.mkdir()
    with h5py.File(weights, "w") as file:
        save_weights_to_hdf5_group(file, model)
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
    built, build = [], loader.build

    def count(*asked, **options):
        built.append(asked)
        return build(*asked, **options)

    monkeypatch.setattr(loader, "build", count)
    cuts = [CutSpec(base, layer, precision="float32") for layer in (None, "block_1_project")]
    plan = plan_extraction(write_images(data, 3), cuts, root, INLINE)
    made = extract_planned(plan)
    assert len(built) == 1 and [done.forwarded for _, done in made] == [3, 3]


def test_execute__looks_again_at_what_is_missing(cuts, data, root):
    """Whoever filled the cache since the plan was made."""
    write_images(data, 6)
    plan = plan_extraction(Dataset.open(data), cuts[:1], root, INLINE)
    extract(Dataset.open(data), cuts[0], root, INLINE)
    ((_, done),) = extract_planned(plan)
    assert (plan.cuts[0].to_forward, done.forwarded, done.reused) == (6, 0, 6)


@pytest.mark.usefixtures("young_files_trusted")
def test_execute__does_what_is_missing_though_the_plan_found_nothing(cuts, data, root):
    write_images(data, 6)
    cache, _ = extract(Dataset.open(data), cuts[0], root, INLINE)
    plan = plan_extraction(Dataset.open(data), cuts[:1], root, INLINE)
    assert plan.is_complete
    for path in cache.shards_folder.iterdir():
        path.unlink()
    (data / "a" / "000000.png").write_bytes(encoded(77))
    ((_, done),) = extract_planned(plan)
    assert (done.forwarded, done.reused, done.engine) == (6, 0, "tensorflow")


def test_plan__in_words(cuts, data, root, monkeypatch):
    dataset = write_images(data, 2)
    for kinds in ENGINES.values():
        for precision in kinds:
            monkeypatch.setitem(kinds, precision, f"{__name__}:AbleEngine")
    cut = replace(cuts[1], precision="auto")
    told = plan_extraction(dataset, [cut], root, ExtractConfig(executor="inline", batch_size=4)).describe()
    assert told[0].endswith(f"no cache in {root} yet, 2 images to forward, 2.5 KiB")
    assert told[1].startswith(
        "Precision: bfloat16 if it passes the check, else float16 if it passes the check, else float32. "
        "Engine: openvino, else tensorflow. this process x"
    )
    exact = replace(cut, precision="bfloat16")
    extract(dataset, exact, root, INLINE)
    cache, _ = extract(dataset, cut, root, INLINE)
    ((engine, figures),) = cache.manifest.fidelity.items()
    more = write_images(data, 4)
    told = plan_extraction(more, [cut], root, INLINE).describe()
    assert told[1].startswith(f"Precision: bfloat16, as the cache was started. Engine: {engine}. ")
    cache.note_fidelity(engine, {**figures, "median_error": 1.0})
    told = plan_extraction(more, [cut], root, INLINE).describe()
    assert told[1].startswith("Precision: bfloat16 if it passes the check, else")
    for act in (plan_extraction, extract_several):
        with pytest.raises(OptionError, match=f"{engine} in bfloat16 is too far from Keras"):
            act(more, [exact], root, replace(INLINE, engine=engine))


# Adding an engine


class AbleEngine(planner.engine_class("fastcls.engines.tensorflow:TensorFlowEngine")):
    """Computes what Keras computes."""

    is_reference = False


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_an_engine_is_one_entry_of_the_table(cuts, data, root, monkeypatch, executor):
    monkeypatch.setitem(ENGINES, "able", {"float32": "test_planner:AbleEngine"})
    monkeypatch.setattr(reading, "_SETTLED_NS", 0)
    config = ExtractConfig("able", executor=executor, batch_size=2)
    cache, done = extract(write_images(data, 3), cuts[0], root, config)
    assert (done.engine, done.forwarded, cache.manifest.precision) == ("able", 3, "float32")
    assert done.fidelity["median_error"] < 1e-5
    assert extract(Dataset.open(data), cuts[0], root, config)[1].reused == 3
