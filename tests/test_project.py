"""The promises of the project: layering, light imports, reasons and pins, clean files."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parents[1]
PLAIN_MODULES = ["config", "errors", "preprocessing", "schema", "zoo"]
MACHINE_PATH = re.compile(r"(?<![\w.~])/(?:work|root|home|Users)/\w")
REGISTRY_HOST = re.compile(
    r"pypi[.]org|pythonhosted[.]org|registry[.]npmjs|deb[.]debian|proxy[.]golang|crates[.]io"
)
IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
print("\\n".join(sys.modules))
"""
TELL_WHO_IMPORTS = """
import sys, traceback
files = [frame.filename for frame in traceback.extract_stack() if "importlib" not in frame.filename]
print("imported by", files[-2], file=sys.stderr)
raise ImportError
"""


def _python(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    return subprocess.run(
        [sys.executable, *args], cwd=ROOT, env=env, capture_output=True, text=True
    )


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _project(requirement: str) -> str:
    return _canonical(re.match(r"[\w.-]+", requirement)[0])


def _setup() -> dict[str, list[str]]:
    """Requirements of setup.py by extra, read without running it; the base ones under ""."""
    call = ast.parse((ROOT / "setup.py").read_text()).body[-1].value
    values = {keyword.arg: keyword.value for keyword in call.keywords}
    extras = ast.literal_eval(values["extras_require"])
    return {"": ast.literal_eval(values["install_requires"]), **extras}


def _imported_projects(*folders: str) -> set[str]:
    """Distributions that the files import, at their top or inside a function."""
    names = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.split(".")[0])
    owners = importlib.metadata.packages_distributions()
    outside = names - sys.stdlib_module_names - {"multimodal"}
    return {_canonical(owners.get(name, [name])[0]) for name in outside}


def _tracked_texts() -> dict[str, str]:
    listing = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    paths = [name for name in listing if (ROOT / name).is_file()]
    return {name: (ROOT / name).read_text(errors="ignore") for name in paths}


def test_imports_only_go_down():
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


@pytest.mark.parametrize("name", PLAIN_MODULES)
def test_plain_modules_need_only_the_standard_library(name):
    result = _python("-S", "-c", f"import multimodal.{name}")  # -S: no site-packages
    assert result.returncode == 0, result.stderr


def test_data_imports_no_model():
    result = _python("-c", IMPORT_ALL, "multimodal.data")
    assert result.returncode == 0, result.stderr
    loaded = result.stdout.split()
    assert "multimodal.data" in loaded
    assert not [m for m in loaded if m.startswith(("multimodal.models", "multimodal.objectives"))]


def test_package_imports_neither_torch_nor_tensorflow(tmp_path):
    for name in ("torch", "tensorflow"):
        (tmp_path / f"{name}.py").write_text(TELL_WHO_IMPORTS)
    result = _python("-c", IMPORT_ALL, "multimodal", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert result.returncode == 0, result.stderr
    importers = re.findall(r"^imported by (.*)$", result.stderr, re.MULTILINE)
    # tensorboardX uses torch's type where it is installed, and never needs it.
    assert not [path for path in importers if "tensorboardX" not in path]


def test_every_dependency_has_a_reason():
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines()]
    reasons = {("", _project(r[0])): r[1] for r in rows if len(r) == 2 and r[0][:1].isalpha()}
    reasons |= {(r[0].strip("`"), _project(r[1])): r[2] for r in rows if len(r) == 3 and r[1]}
    for extra, requirements in _setup().items():
        for requirement in requirements:
            assert reasons.get((extra, _project(requirement))), f"no reason for {requirement}"


def test_every_dependency_is_pinned():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [re.match(r"([\w.-]+)==[^;\s]+(; python_version .*)?$", line) for line in lines]
    pinned = {_canonical(pin[1]) for pin in pins if pin}
    wanted = {_project(r) for requirements in _setup().values() for r in requirements}
    assert wanted <= pinned, wanted - pinned


def test_every_import_is_a_declared_dependency():
    declared = {_project(r) for requirements in _setup().values() for r in requirements}
    assert _imported_projects("multimodal") <= declared


def test_every_dependency_is_imported():
    required = {_project(requirement) for requirement in _setup()[""]}
    assert required <= _imported_projects("multimodal", "tests")


def test_tracked_files_name_no_machine_and_no_registry():
    for name, text in _tracked_texts().items():
        for pattern in (MACHINE_PATH, REGISTRY_HOST):
            found = pattern.search(text)
            assert not found, f"{name}: {found[0]}"


@pytest.mark.parametrize("ci, code", [("true", 1), ("", 0)])
def test_a_skipped_test_fails_in_ci(tmp_path, ci, code):
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(
        "import pytest\ndef test_a(): pass\ndef test_b(): pytest.skip('no file')\n"
    )
    arguments = ["-m", "pytest", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(tmp_path)]
    result = _python(*arguments, CI=ci)
    assert result.returncode == code, result.stdout
    assert "1 passed, 1 skipped" in result.stdout


def test_cpu_flags_of_the_tests_do_not_reach_libtpu():
    """Newer versions end the process at a flag that they do not know; the pinned one does not."""
    assert "xla_cpu" not in os.environ.get("XLA_FLAGS", "")
