"""Several cuts as a user asks for them."""

from __future__ import annotations

import pytest

from fastcls.cache.store import cache_folders


def test_extract__of_several_cuts_makes_a_cache_for_each(fastcls, photos, base, tmp_path):
    asked = (
        "extract",
        photos,
        "--base",
        base,
        "--precision",
        "float32",
        "--pool",
        "avg",
        "--cache",
        tmp_path,
    )
    done = fastcls(*asked, "--cut", "conv", "--cut", "pooled")
    assert done.code == 0, done.err
    assert [line.split(" cut at ")[1][:6] for line in done.out.splitlines() if " cut at " in line] == [
        "conv, ",
        "pooled",
    ]
    assert done.out.count(": 60 forwarded, 0 reused, 0 unreadable") == 2
    folders = cache_folders(tmp_path)
    assert len(folders) == 2 and all(f"train-head {folder}" in done.out for folder in folders)
    for layer in ("conv", "pooled"):
        alone = fastcls(*asked, "--cut", layer)
        assert ": 0 forwarded, 60 reused" in alone.out
    assert cache_folders(tmp_path) == folders


@pytest.mark.parametrize(
    ("command", "options", "code", "complaint"),
    [
        ("run", "--out x --cut conv --cut pooled", 2, "give one --cut"),
        ("extract", "--cut conv --cut conv", 1, "given twice"),
        ("extract", "--cut conv --cut pooled --precision int8", 1, "one --cut at a time"),
        ("extract", "--cut conv --cut pool", 1, "closest cut points are pooled"),
    ],
)
def test_several_cuts__that_cannot_be(fastcls, photos, base, tmp_path, command, options, code, complaint):
    result = fastcls(command, photos, "--base", base, "--cache", tmp_path / "c", *options.split())
    assert result.code == code and complaint in result.err and "Traceback" not in result.err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
