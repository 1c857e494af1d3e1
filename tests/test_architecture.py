"""The house stands as docs/architecture.md draws it: floors, no heavy imports, short files."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("gaugan", "jobs", "tune", "serve", "cluster", "benchmarks")
FILES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
GAUGAN_MAY_IMPORT = {
    "gaugan",
    "torch",
    "torchvision",
    "numpy",
    "PIL",
    "pyarrow",
    "yaml",
    "safetensors",
    "tyro",
    "triton",
}
LONGEST_FILE = 350
HELP_CPU_S = 2.0
IMPORT_CPU_S = 0.5
LIGHT = ("config", "storage", "labels", "images", "plan", "progress", "unet.config", "spade.config")
COMMANDS = [path for path in FILES if path.parts[0] in ("jobs", "tune") and "__main__" in (ROOT / path).read_text()]


def read_floors() -> dict[str, int]:
    """From the table of docs/architecture.md: a file or a folder (ending in "/") -> its floor."""
    floors = {}
    rows = re.findall(r"^\| (\d) \| (.+?) \|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    for floor, cell in rows:
        for group in re.findall(r"`(.+?)`", cell):
            first, *others = group.split()
            folder = first.rpartition("/")[0]
            for name in (first, *(f"{folder}/{other}" for other in others)):
                floors[name] = int(floor)
    return floors


FLOORS = read_floors()


def floor_of(path: Path) -> int:
    """The floor of a file: its own entry, else that of the closest folder."""
    for name in (path.as_posix(), *(f"{parent.as_posix()}/" for parent in path.parents)):
        if name in FLOORS:
            return FLOORS[name]
    raise AssertionError(f"{path} stands on no floor: add it to the table in docs/architecture.md")


def imported_modules(path: Path) -> set[str]:
    """Dotted names of all imports, also those inside functions; not those for type checkers only."""
    tree = ast.parse((ROOT / path).read_text())
    skipped = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def file_of(module: str) -> Path | None:
    """The file of ours that a dotted name is defined in; None for other people's modules and for packages."""
    parts = module.split(".")
    if parts[0] not in PACKAGES:
        return None
    for length in range(len(parts), 0, -1):
        path = Path(*parts[:length]).with_suffix(".py")
        if (ROOT / path).exists():
            return path
    return None


@pytest.mark.parametrize("path", [path for path in FILES if path.name != "__init__.py"], ids=str)
def test_a_file_imports_only_from_lower_floors_or_its_own_folder(path: Path) -> None:
    if path.parts[0] == "benchmarks":
        return
    mine = floor_of(path)
    for module in imported_modules(path):
        other = file_of(module)
        if other is not None and other != path:
            allowed = floor_of(other) < mine or (floor_of(other) == mine and other.parent == path.parent)
            assert allowed, f"{path} (floor {mine}) imports {other} (floor {floor_of(other)})"


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[0] == "gaugan"], ids=str)
def test_the_library_imports_nothing_but_torch_and_its_few_friends(path: Path) -> None:
    others = {module.split(".")[0] for module in imported_modules(path)} - set(sys.stdlib_module_names)
    assert others <= GAUGAN_MAY_IMPORT
    assert "tyro" not in others or path.name == "config.py"
    assert "triton" not in others or path.name == "triton_kernels.py"  # comes with torch on CUDA, optional


def test_every_entry_of_the_floor_table_exists() -> None:
    assert FLOORS and not [name for name in FLOORS if not (ROOT / name).exists()]


def test_files_are_short() -> None:
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in FILES}
    assert not {path: length for path, length in lengths.items() if length > LONGEST_FILE}


def python(code: str) -> str:
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_light_modules_is_quick_and_loads_nothing_heavy() -> None:
    modules = ", ".join(["gaugan", *(f"gaugan.{name}" for name in LIGHT)])
    heavy = "{'torch', 'pyarrow', 'PIL', 'tyro', 'ray'} & set(sys.modules)"
    seconds, loaded = python(f"import sys, time, {modules}; print(time.process_time(), {heavy})").split(maxsplit=1)
    assert loaded.strip() == "set()" and float(seconds) < IMPORT_CPU_S


def test_reading_pairs_and_the_table_of_systems_needs_no_torch() -> None:
    assert (
        python("import sys, gaugan.pairs, gaugan.folders, gaugan.systems; print('torch' in sys.modules)") == "False\n"
    )


@pytest.mark.parametrize("path", COMMANDS, ids=str)
def test_help_of_a_job_comes_at_once(path: Path) -> None:
    code = f"""
import contextlib, io, runpy, sys, time
sys.argv = [{str(path)!r}, "--help"]
shown = io.StringIO()
try:
    with contextlib.redirect_stdout(shown):
        runpy.run_path({str(path)!r}, run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
assert "--output" in shown.getvalue() and "--dry-run" in shown.getvalue(), shown.getvalue()
print(time.process_time(), *({{"torch", "ray", "mlflow"}} & set(sys.modules)))
"""
    seconds, *loaded = python(code).split()
    assert not loaded and float(seconds) < HELP_CPU_S


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[0] != "benchmarks"], ids=str)
def test_example_commands_in_a_docstring_stay_on_lines_of_their_own_in_the_help(path: Path) -> None:
    """The help joins lines into paragraphs, indented ones excepted."""
    lines = (ast.get_docstring(ast.parse((ROOT / path).read_text())) or "").splitlines()
    for one, next_one in itertools.pairwise(lines):
        assert not (one.startswith("python ") and next_one.startswith("python ")), next_one
