"""cluster.labelling.failures: one failed unit is noted, many in a row end the run."""

from __future__ import annotations

import pytest
import wild

from cluster.labelling import pool
from cluster.labelling.failures import FAULT, IN_A_ROW, NO_ROOM, Failures, UnitFailure
from cluster.store.local import LocalStore
from hojoint.errors import MachineError, NoRoom, Unavailable


def fault(number: int, kind: str = FAULT) -> UnitFailure:
    return UnitFailure(f"u{number}", kind, "TypeError: of one unit", "Traceback of it")


def test_one_failure_is_noted_and_its_traceback_printed_once(capsys):
    failures = Failures(1)
    failures.add(fault(1))
    failures.success()
    failures.add(fault(2))
    assert list(failures.units) == ["u1", "u2"]
    printed = capsys.readouterr().err
    assert printed.count("Traceback of it") == 1
    assert "note: unit u2 failed (TypeError: of one unit); the others continue" in printed


@pytest.mark.parametrize(("kind", "error"), [(FAULT, MachineError), (NO_ROOM, NoRoom)])
def test_failures_without_a_success_between_end_the_run(kind, error):
    failures = Failures(1)
    for number in range(IN_A_ROW - 1):
        failures.add(fault(number, kind))
    with pytest.raises(error, match=rf"{IN_A_ROW} units in a row failed; the first, u0: TypeError"):
        failures.add(fault(IN_A_ROW, kind))


def test_many_actors_may_fail_at_once():
    failures = Failures(64)
    for number in range(2 * 64 - 1):
        failures.add(fault(number))
    failures.success()
    failures.add(fault(200))


def test_an_outage_beyond_the_patience_ends_the_run_at_once():
    with pytest.raises(Unavailable, match=r"^store unreachable$"):
        Failures(8).add(UnitFailure.of("u0", Unavailable("store unreachable")))


def test_a_failure_travels_as_text():
    found = UnitFailure.of("u0", NoRoom("no room on n1"))
    assert UnitFailure.from_json(found.to_json()) == found == UnitFailure("u0", NO_ROOM, "no room on n1")


def test_the_units_that_are_left_are_told(monkeypatch, tmp_path):
    """A unit that fails is left for a second try."""
    wild.without_ray(monkeypatch)
    tries, told = [], []

    def work(row):
        tries.append(row["unit"])
        if tries == ["u0"]:
            raise TypeError("once")
        return {"commit": b""}

    rows = [{"unit": f"u{number}"} for number in range(3)]
    store = LocalStore(tmp_path)
    commits = pool.commit_all(lambda: work, rows, store=store, actors=(1, 2), cpus=1, tell=told.append)
    assert list(commits) == [None] * 3
    assert told == [3, 2, 1, 0, 1, 0]
