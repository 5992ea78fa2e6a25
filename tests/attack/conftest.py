"""One seed for all that `make attack` draws, and at its end a table of what became of each kind of try."""

import collections
import os
import secrets

import pytest

os.environ.setdefault("ATTACK_SEED", str(secrets.randbelow(10**6)))  # before xdist's workers start, which inherit it
OUTCOMES = ("survived", "clear", "cut", "silent", "bare")
TOLD = {True: "clear", False: "survived", None: "cut"}  # by what `lists.tried` returns


def pytest_report_header():
    """The seed, by which the same draw can be had again."""
    return f"ATTACK_SEED={os.environ['ATTACK_SEED']}"


@pytest.fixture
def note(record_property):
    """Say what became of a try: "survived" (all as before), "clear" (one line named it), "cut" (not waited for)."""
    return lambda outcome: record_property("attack", TOLD.get(outcome, outcome))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A test that fails has met what is silent (another result, no word), or else an error that is not ours."""
    if call.when == "call" and call.excinfo and not call.excinfo.errisinstance(pytest.skip.Exception):
        silent = call.excinfo.errisinstance(AssertionError)
        item.user_properties.append(("attack", "silent" if silent else "bare"))
    return (yield)


def pytest_terminal_summary(terminalreporter):
    """The counts, a line a test."""
    found = collections.defaultdict(collections.Counter)
    for report in (report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)):
        if getattr(report, "when", "") == "call":
            name = report.nodeid.split("::")[1].split("[")[0]
            found[name].update(value for key, value in report.user_properties if key == "attack")
    terminalreporter.section(f"attacks, ATTACK_SEED={os.environ['ATTACK_SEED']}")
    terminalreporter.write_line(f"{'':60}" + "".join(f"{outcome:>10}" for outcome in OUTCOMES))
    for name, counts in found.items():
        terminalreporter.write_line(f"{name:60}" + "".join(f"{counts[outcome]:10}" for outcome in OUTCOMES))
