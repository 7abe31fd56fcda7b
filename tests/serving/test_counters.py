"""What several processes count is told by any of them."""

import os
import subprocess
import sys

from serving_support import metrics_of

from fastcls.serving.counters import Counters

CHILD = """
import sys
from pathlib import Path
from fastcls.serving.counters import Counters
counters = Counters(Path(sys.argv[1]))
counters.add("images", 5)
counters.add("ready")
counters.add("held_images", 3)
counters.answered("/predict", 200, 0.02)
print("counted", flush=True)
sys.stdin.read()
"""


def test_counters_of_all_processes_are_added_and_gauges_of_those_that_live(tmp_path):
    own = Counters(tmp_path)
    own.add("images", 2)
    own.add("ready")
    own.answered("/predict", 200, 3.0)
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        child.stdout.readline()
        (tmp_path / f"{os.getpid()}-being-made").touch()
        together = metrics_of(own.render())
        assert own.ready() == 2
        child.kill()
    alone = metrics_of(own.render())
    assert together["fastcls_images_total"] == alone["fastcls_images_total"] == 7
    assert alone['fastcls_requests_total{path="/predict",status="200"}'] == 2
    assert alone['fastcls_request_seconds_bucket{le="0.025"}'] == 1
    assert alone["fastcls_request_seconds_count"] == 2 and alone["fastcls_request_seconds_sum"] == 3.02
    assert (together["fastcls_held_images"], alone["fastcls_held_images"]) == (3, 0)
    assert own.ready() == alone["fastcls_ready"] == 1


def test_counters_of_one_process_are_its_own(tmp_path):
    first, second = Counters(), Counters()
    first.add("images")
    assert metrics_of(second.render())["fastcls_images_total"] == 0
