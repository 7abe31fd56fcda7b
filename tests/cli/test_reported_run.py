"""`run` ends with the report: after all else, and nothing that happens to it harms the run."""

import errno

from fastcls.report import reporter
from fastcls.runs import Run

SMALL = ("--precision", "float32", "--head", "prototype", "--executor", "inline")


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


def test_run__ends_with_its_report_and_is_complete_without_it(
    fastcls, photos, base, tmp_path, monkeypatch, caplog
):
    out = tmp_path / "my run"
    command = ("run", photos, "--base", base, *SMALL, "--cache", tmp_path / "caches", "--out", out)
    planned = fastcls(*command, "--dry-run", report=True)
    assert f"Then the page about it: {out / 'report.html'}" in planned.out and not out.exists()
    told = []
    for error in (OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), None):
        with monkeypatch.context() as patch:
            if error is not None:
                patch.setattr(reporter, "render", failing(error))
            told.append(fastcls(*command, report=True))
        assert told[-1].code == 0 and "Traceback" not in told[-1].err, told[-1].err
        assert Run.open(out).tests() and (out / "report.html").exists() == (error is None)
    again = f"fastcls report '{out}'"
    _, left_out, written = told
    (line,) = (line for line in caplog.messages if "its report" in line)
    assert "No space left" in line and line.endswith(again) and "\n" not in line
    assert left_out.out.endswith(f"The report is left out. To write it: {again}\n")
    lines = written.out.splitlines()
    places = [
        next(place for place, line in enumerate(lines) if line.startswith(start))
        for start in ("Result: ", "Next: ", "Writing the report", "Report of 60 images")
    ]
    assert places == sorted(places) and lines[-1].endswith(f": {out / 'report.html'}")
    assert "fastcls report" not in written.out
    page = (out / "report.html").read_bytes()
    once_more = fastcls(*command, report=True)  # it is there, and nothing is new
    assert once_more.out.endswith(f"Report: {out / 'report.html'}\n")
    assert (out / "report.html").read_bytes() == page and "Writing the report" not in once_more.out
    without = fastcls(*command)
    assert "Writing the report" not in without.out and "fastcls report" in without.out


def test_run__of_very_many_images_names_the_command(fastcls, photos, base, tmp_path, monkeypatch):
    monkeypatch.setattr("fastcls.cli.run.MOST_REPORTED", 59)
    out = tmp_path / "run"
    asked = ("--cache", tmp_path / "caches", "--out", out, "--test", 0)
    done = fastcls("run", photos, "--base", base, *SMALL, *asked, report=True)
    assert done.out.endswith(f"A report of 60 images takes a while. To write it: fastcls report {out}\n")
    assert done.code == 0 and not (out / "report.html").exists()
