"""The notebook: its cells run from top to bottom, and it is committed with what they print."""

import json
import tempfile
from pathlib import Path

NOTEBOOK = Path(__file__).parents[1] / "docs" / "digits.ipynb"


def code_cells():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_notebook__its_cells_run(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = "\n".join("".join(cell["source"]) for cell in code_cells())
    names = {"__name__": "__main__"}
    exec(
        compile(
            "import matplotlib\nmatplotlib.use('agg')\n" + code.replace("plt.show()", ""), "digits", "exec"
        ),
        names,
    )
    assert names["result"].test.evaluation.accuracy > 0.9
    assert names["features"].shape == (len(names["samples"]), 120)


def test_notebook__is_committed_with_outputs_and_small():
    outputs = [output for cell in code_cells() for output in cell["outputs"]]
    kinds = [output["output_type"] for output in outputs]
    assert "error" not in kinds and kinds.count("display_data") == 2  # the two pictures
    assert NOTEBOOK.stat().st_size < 200_000
