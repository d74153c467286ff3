"""The examples of docs/python.md run as printed."""

import pathlib
import re

import pytest

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "python.md"


@pytest.mark.parametrize("module", ["torch", "scipy"])
def test_example(module, capsys):
    pytest.importorskip(module, reason=f"{module} is not installed")
    text = PAGE.read_text()
    code, = (block for block in re.findall(r"```python\n(.*?)```", text, re.S) if re.search(rf"import .*\b{module}\b", block))
    exec(compile(code, str(PAGE), "exec"), {})
    printed = capsys.readouterr().out.strip()
    assert not printed or f"It prints `{printed}`" in text
