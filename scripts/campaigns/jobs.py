"""The commands that are killed: what each needs, and what it must leave behind however often it was."""

from __future__ import annotations

from dataclasses import dataclass

from campaigns.material import BASE


@dataclass(frozen=True)
class Job:
    """One command.

    Attributes:
        name: What it is called in tables and on the command line of a campaign.
        arguments: Its arguments, separated by blanks.
        needs: What of the material it reads.
        workers: Whether it has worker processes.
        prints: Whether what it prints is a result.
    """

    name: str
    arguments: str
    needs: tuple[str, ...]
    workers: bool = False
    prints: bool = False


_TRAIN = "train-head {} --out made --epochs 12"
_PHOTOS = ("photos", "base.keras")

JOBS = (
    *(
        Job(f"split-{mode}", f"split-data photos --out made --mode {mode}", ("photos",))
        for mode in ("link", "copy", "symlink")
    ),
    Job(
        "split-labels",
        "split-data labels.csv --label-separator | --image-root photos --out made",
        ("photos", "labels.csv"),
    ),
    Job("extract", f"extract photos {BASE} --cache caches --workers 2", _PHOTOS, workers=True),
    Job(
        "extract-views",
        f"extract data {BASE} --cut early --cut late --views 3 --cache caches --workers 2 --compress",
        ("data", "base.keras"),
        workers=True,
    ),
    Job(
        "train-linear",
        f"{_TRAIN.format('vectors')} --layers 8,0.3 --checkpoint-every 1 --checkpoint-keep 3",
        ("vectors",),
    ),
    Job("train-tail", f"{_TRAIN.format('maps')} --head tail --checkpoint-every 1", ("maps",)),
    Job("train-logreg", "train-head vectors --out made --head logreg", ("vectors",)),
    Job("train-knn", "train-head vectors --out made --head knn", ("vectors",)),
    Job(
        "finetune",
        "finetune data --from run --out made --epochs 6 --batch-size 8 --checkpoint-every 1",
        ("data", "run"),
    ),
    Job(
        "run",
        f"run photos {BASE} --cache caches --out made --epochs 12 --checkpoint-every 1 --workers 2 "
        "--no-report",
        _PHOTOS,
        workers=True,
    ),
    Job("test", "test run data --out made", ("run", "data")),
    Job("predict", "predict run photos --csv", ("run", "photos"), prints=True),
    Job("to-csv", "to-csv photos --out made.csv --val 0.2 --test 0.2", ("photos",)),
    Job("to-tfrecord", "to-tfrecord data --out made --shards 2", ("data",)),
    Job("import-weights", "import-weights lenet5 lenet.safetensors", ("lenet.safetensors",)),
)


def find_job(name: str) -> Job:
    """The command of a name.

    Raises:
        KeyError: There is none.
    """
    return {job.name: job for job in JOBS}[name]
