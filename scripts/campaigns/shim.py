"""A library loaded before all others: it counts calls that change files, and strikes at a chosen one."""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

_SOURCE = Path(__file__).with_name("shim.c")


@dataclass(frozen=True)
class Shim:
    """The compiled library.

    Attributes:
        library: Where it is.
    """

    library: Path

    def environment(
        self,
        root: Path,
        count: Path,
        *,
        call: int = 0,
        signal: int = 0,
        errno: int = 0,
        reads: bool = False,
    ) -> dict[str, str]:
        """Variables that let a process be watched.

        Args:
            root: Files below it count.
            count: The file that keeps the count, which begins at zero.
            call: The call to strike at; 0 for none.
            signal: What to raise there.
            errno: Or how that call and all later ones are to fail.
            reads: Count reads in place of what changes files.
        """
        count.write_bytes(struct.pack("l", 0))
        numbers = {"CALL": call, "SIGNAL": signal, "ERRNO": errno, "READS": int(reads)}
        return {
            "LD_PRELOAD": str(self.library),
            "CAMPAIGN_ROOT": str(root),
            "CAMPAIGN_COUNT": str(count),
            **{f"CAMPAIGN_{name}": str(value) for name, value in numbers.items()},
        }


def read_count(count: Path) -> int:
    """How many calls there were."""
    return int(struct.unpack("l", count.read_bytes())[0])


def compile_shim(folder: Path) -> Shim | None:
    """Compile it into a folder; None where there is no C compiler, or it cannot be loaded."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    library = folder / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(_SOURCE), "-ldl"]
    if subprocess.run(command, capture_output=True).returncode:
        return None
    shim = Shim(library)
    with tempfile.TemporaryDirectory() as root:
        count = Path(root) / "count"
        watched = shim.environment(Path(root), count)
        subprocess.run(["mkdir", f"{root}/made"], env=watched, check=False, capture_output=True)
        return shim if read_count(count) == 1 else None
