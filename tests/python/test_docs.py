"""The examples of docs/python.md run as printed."""

import pathlib
import re

import pytest

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "python.md"


BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_example(code, capsys):
    for module in ("torch", "scipy"):
        if re.search(rf"import .*\b{module}\b", code):
            pytest.importorskip(module, reason=f"{module} is not installed")
    exec(compile(code, str(PAGE), "exec"), {})
    printed = capsys.readouterr().out.strip()
    assert not printed or f"It prints `{printed}`" in PAGE.read_text()


def test_there_are_examples():
    assert len(BLOCKS) >= 3
