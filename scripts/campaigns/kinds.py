"""Every kind of file that is read back, and the commands that read it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from campaigns.material import BASE, STOPPED


class Promise(Enum):
    """What a damaged file may do.

    Attributes:
        SAME: The result is right, or the command says what is wrong and names the file.
        OTHERS: An image is another image then: the results of all others are right.
        ALIVE: It is the user's own file, and nothing tells that it was another: any result is right, but a
            traceback, a crash, or no end is not.
    """

    SAME = "same"
    OTHERS = "others"
    ALIVE = "alive"


@dataclass(frozen=True)
class Reader:
    """Commands that read a file.

    Attributes:
        steps: One after the other; the first that ends in an error is the last.
        needs: What of the material they need.
        results: A regular expression for what they make, by the names of `results.summarize`.
        prints: Whether what the last one prints is a result.
    """

    steps: tuple[str, ...]
    needs: tuple[str, ...]
    results: str = r"made.*"
    prints: bool = False


@dataclass(frozen=True)
class Kind:
    """Files of one kind.

    Attributes:
        name: What it is called in tables and on the command line of the campaign.
        pattern: Where they are in the material.
        readers: Who reads them.
        promise: What damage may do.
        meant: Damages that leave a whole file, which may be meant: they are held to no more than `ALIVE`.
    """

    name: str
    pattern: str
    readers: tuple[Reader, ...]
    promise: Promise = Promise.SAME
    meant: tuple[str, ...] = ()


_HEAD = "--out made --head logreg"
_ROWS = r".*/row .*"

_TRAIN = Reader((f"train-head vectors {_HEAD}",), ("vectors",))
_KNN = Reader(("train-head vectors --out made --head knn",), ("vectors",))
_TAIL = Reader(("train-head maps --out made --head tail --epochs 2",), ("maps",))
_EXTRACT_TRAIN = Reader(
    (f"extract data {BASE} --cache vectors --workers 1", f"train-head vectors {_HEAD}"),
    ("data", "base.keras", "vectors"),
)
_EXTRACT_TAIL = Reader(
    (
        f"extract data {BASE} --cut early --views 2 --cache maps --compress --workers 1",
        "train-head maps --out made --head tail --epochs 2",
    ),
    ("data", "base.keras", "maps"),
)
_MORE = Reader(
    (f"extract extra {BASE} --cache vectors --workers 1",), ("extra", "base.keras", "vectors"), _ROWS
)
_MORE_TAIL = Reader(
    (f"extract extra {BASE} --cut early --cache maps --workers 1",), ("extra", "base.keras", "maps"), _ROWS
)
_CACHE = (_TRAIN, _TAIL, _EXTRACT_TRAIN, _EXTRACT_TAIL, _MORE, _MORE_TAIL)

_PREDICT = Reader(("predict run photos --csv",), ("run", "photos"), prints=True)
_TEST = Reader(("test run data --out made",), ("run", "data"))
_FINETUNE = Reader(("finetune data --from run --out made --epochs 1 --batch-size 8",), ("run", "data"))
_FROM = Reader(("train-head vectors --out made --from run --epochs 2",), ("run", "vectors"))
_CONFIG = Reader(("train-head vectors --out made --config run",), ("run", "vectors"))
_FROM_CHECKPOINT = Reader(
    ("train-head vectors --out made --from run/checkpoints/epoch-0004.keras --epochs 2",),
    ("run", "vectors"),
)
_PREDICT_CHECKPOINT = Reader(
    ("predict run/checkpoints/epoch-0004.keras photos --csv",), ("run", "photos"), prints=True
)
_RESUME = Reader((STOPPED,), ("vectors", "stopped.unfinished"), r"stopped.*")

_SPLIT_AGAIN = Reader(("split-data photos --out data",), ("photos", "data"), r"data.*")
_SPLIT_ON = Reader(("split-data photos --out half",), ("photos", "half"), r"half.*")
_SPLIT_LABELS = "split-data labels.csv --label-separator | --image-root photos --out"
_TAG_AGAIN = Reader((f"{_SPLIT_LABELS} tagged",), ("photos", "labels.csv", "tagged"), r"tagged.*")
_TAG = Reader((f"{_SPLIT_LABELS} made",), ("photos", "labels.csv"))


def _list(data: str, *needs: str) -> Reader:
    return Reader((f"to-csv {data} --out made.csv",), (data, *needs))


def _pack(data: str, *needs: str) -> Reader:
    return Reader((f"to-tfrecord {data} --out made",), (data, *needs))


def _extract(data: str, results: str = r"made.*") -> Reader:
    return Reader((f"extract {data} {BASE} --cache made --workers 1",), (data, "base.keras"), results)


def _read_model(name: str) -> tuple[Reader, ...]:
    arguments = f"extract extra --base {name} --cache made --workers 1 --precision float32"
    return (
        Reader((f"layers {name}",), (name,), prints=True),
        Reader((arguments,), (name, "extra"), _ROWS),
    )


KINDS = (
    Kind("manifest", "vectors/*/manifest.json", (*_CACHE,)),
    Kind("tables", "{vectors,maps}/**/*.csv", (_TRAIN, _TAIL, _EXTRACT_TRAIN, _EXTRACT_TAIL)),
    Kind("records", "{vectors,maps}/**/*.json", (*_CACHE,)),
    Kind("shards", "vectors/*/shards/*.h5", (_TRAIN, _KNN, _EXTRACT_TRAIN)),
    Kind("shards-gzip", "maps/*/shards/*.h5", (_TAIL, _EXTRACT_TAIL)),
    Kind("trunks", "{vectors,maps}/*/trunk.keras", _CACHE),
    Kind("tails", "maps/*/tail.keras", (_TAIL, _EXTRACT_TAIL, _MORE_TAIL)),
    Kind("engines", "{vectors,maps}/*/openvino/*", (_MORE, _MORE_TAIL, _EXTRACT_TRAIN)),
    Kind(
        "run-records",
        "run/run.json",
        (_PREDICT, _TEST, _FROM, _CONFIG, _FINETUNE),
        meant=("absent", "folder"),  # a classifier alone serves too
    ),
    Kind("run-tables", "run/*.csv", (_PREDICT, _TEST, _FROM, _FINETUNE)),
    Kind("heads", "run/head.keras", (_FROM, _PREDICT), meant=("swap",)),
    Kind("classifiers", "run/classifier.keras", (_PREDICT, _TEST, _FINETUNE), meant=("swap",)),
    Kind(
        "checkpoints",
        "run/checkpoints/*.keras",
        (_FROM_CHECKPOINT, _PREDICT_CHECKPOINT),
        meant=("swap", "append"),
    ),
    Kind("unfinished", "stopped.unfinished/**/*.*", (_RESUME,)),
    Kind("split-table", "data/split.csv", (_SPLIT_AGAIN, _list("data"), _extract("data"))),
    Kind("split-plan", "half/.split-plan.csv", (_SPLIT_ON,)),
    # A table alone, which may be edited, as any CSV.
    Kind("split-labels", "tagged/split.csv", (_TAG_AGAIN, _list("tagged", "photos")), Promise.ALIVE),
    Kind("csv", "photos.csv", (_list("photos.csv", "photos"), _pack("photos.csv", "photos")), Promise.ALIVE),
    Kind("csv-labels", "labels.csv", (_TAG,), Promise.ALIVE),
    Kind("tfrecords", "packed/*.tfrecord", (_list("packed"), _pack("packed")), meant=("swap", "empty")),
    Kind(
        "tfrecord-images",
        "packed/*.tfrecord",
        (_extract("packed", results=_ROWS),),
        Promise.OTHERS,
        meant=("swap", "empty"),
    ),
    Kind("tfrecord-labels", "packed/labels.txt", (_list("packed"), _extract("packed")), Promise.ALIVE),
    Kind("base-keras", "base.keras", _read_model("base.keras"), meant=("swap",)),
    Kind("base-h5", "base.h5", _read_model("base.h5"), Promise.ALIVE),
    Kind("base-saved", "saved/**/*.*", _read_model("saved"), Promise.ALIVE),
    Kind(
        "weights-h5",
        "lenet.weights.h5",
        (
            Reader(
                ("extract extra --base lenet5 --weights lenet.weights.h5 --cache made --workers 1",),
                ("lenet.weights.h5", "extra"),
            ),
        ),
        Promise.ALIVE,
    ),
    Kind(
        "safetensors",
        "lenet.safetensors",
        (Reader(("import-weights lenet5 lenet.safetensors",), ("lenet.safetensors",), r"lenet5.*"),),
        Promise.ALIVE,
    ),
    Kind(
        "images",
        "photos/*/*.*",
        (
            _extract("photos", results=_ROWS),
            _PREDICT,
        ),
        Promise.OTHERS,
    ),
)
