"""No command shows what TensorFlow prints while it starts: a plan is all that a dry run prints."""

from __future__ import annotations

import os
import subprocess
import sys


def test_commands_that_load_tensorflow_print_nothing_but_their_own(trained, photos, base, tmp_path):
    run, out = trained.run, ("--out", tmp_path / "out", "--dry-run")
    own = ("--base", base, "--cache", tmp_path / "caches", "--epochs", 1)  # a head that is a network
    commands = {
        ("layers", base): "multiply-adds",
        ("predict", run, photos / "red" / "0.png"): "red",
        ("run", photos, *own, *out): "Nothing was written",
        ("train-head", trained.cache.folder, "--head", "linear", *out): "Nothing was written",
        ("finetune", photos, "--from", run, "--val", "0", *out): "Nothing was written",
    }
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    started = {
        command: subprocess.Popen(
            [sys.executable, "-m", "fastcls", *map(str, command)],
            env=quiet,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    }
    for command, process in started.items():
        shown, printed = process.communicate()
        own_lines = [line for line in printed.splitlines() if not line.startswith("--head auto takes")]
        assert (process.returncode, own_lines) == (0, []), command
        assert commands[command] in shown, command
