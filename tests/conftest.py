"""Eight simulated CPU devices for every test and programs compiled in a hurry, none by earlier
ones, set before jax is first imported; no skips in CI."""

import importlib.util
import os

import pytest

from tests.commands import flags

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
_OWN = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = f"{flags(8)} {_OWN}"

import jax  # noqa: E402

jax.devices()  # reads the flags: libtpu would read them too, and end where it does not know one
os.environ["XLA_FLAGS"] = _OWN

# What needs the extra `torch` is no test where that is not installed, rather than a skipped one.
_NEEDS = {
    "interop/test_open_clip.py": ("torch", "transformers", "open_clip"),
    "interop/test_transformers.py": ("torch", "transformers"),
}
collect_ignore = [
    file for file, names in _NEEDS.items() if not all(map(importlib.util.find_spec, names))
]


def _skipped_in_ci(config: pytest.Config) -> int:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") != "true" or reporter is None:
        return 0
    return len(reporter.stats.get("skipped", []))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A skipped test proves nothing: in CI it makes the run fail, whoever called skip and why."""
    if exitstatus == pytest.ExitCode.OK and _skipped_in_ci(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if count := _skipped_in_ci(terminalreporter.config):
        terminalreporter.write_line(f"{count} skipped: in CI every test must run", red=True)
