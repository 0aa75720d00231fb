"""python -m jobs.doctor SET=PLACE [SET=PLACE ...] [output=DIR_OR_S3_URI] [key=value ...] [--dry-run]
python -m jobs.doctor cluster [cluster.address=ADDRESS] [output=URI] [SET=PLACE ...] [key=value ...]

The first form checks data sets before anything runs on them. Sets:
  ho3d=DIR        HO-3D v2 or v3 (data.ho3d.root)
  freihand=DIR    FreiHAND v2 (data.freihand.root)
  objects=DIR     object models (data.ho3d.object_models)
  mano=FILE       MANO_RIGHT.pkl, .npz or their folder (mano.path)
  videos=DIR      videos, a folder or s3://bucket/prefix (videos.root)
  boxes=FILE      boxes of their hands and objects (videos.boxes)
  pseudo=URI      output of jobs.pseudo_label or jobs.refilter (data.pseudo.labels)
  checkpoint=FILE a network of this program or the authors' (evaluate.checkpoint)
Prints a report per set: counts beside the published ones, faults with numbers and remedies. With an output it also
writes doctor.html, doctor.json and <set>_sheet.jpg, overlays to look at. Exit code 0: each set is healthy, or
incomplete but usable in the way that its report names. 2: a set is unusable.

The second form (doctor.cluster=true) looks from inside at every node of a cluster: the places that the settings name,
object storage, clock, disks, shared memory, versions, GPUs. It prints a table with remedies. The address is a
dashboard's (then it goes through the job server), auto, or host:port. Exit code 2: something is at fault.
"""

from __future__ import annotations

import json
import operator
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cluster import label_checks, video_checks
from cluster.sources import mirror
from cluster.store import open_store, read_uri
from hojoint.config import Config
from hojoint.errors import InputError
from hojoint.evaluation import set_checks
from hojoint.report import health
from hojoint.report.health import Checked
from jobs import cluster_doctor, command

SETS = {
    "ho3d": "data.ho3d.root",
    "freihand": "data.freihand.root",
    "objects": "data.ho3d.object_models",
    "mano": "mano.path",
    "videos": "videos.root",
    "boxes": "videos.boxes",
    "pseudo": "data.pseudo.labels",
    "checkpoint": "evaluate.checkpoint",
}
"""Word of the command line -> the setting that it stands for."""
OTHERWISE = {"freihand": "data.freihand.evaluation_root", "videos": "videos.boxes"}
"""Word -> a setting that has the set checked where the word's own one is not given."""
Check = Callable[[Config, video_checks.Progress], list[Checked]]
EVERY_S = 5.0  # between two lines of progress


def job(config: Config, dry_run: bool) -> None:
    """Check every set that the settings name, or the nodes of the cluster."""
    if config.doctor.cluster:
        cluster_doctor.job(config, dry_run)
        return
    checks = checks_of(config)
    if not checks:
        raise InputError(f"nothing to check: give one or more of {', '.join(f'{name}=PLACE' for name in SETS)}")
    _refuse_absent(config)
    if config.output is not None:
        command.output_of(config, "DIR")
    if dry_run:
        print(f"would check {', '.join(checks)}")
        return
    results: list[Checked] = []
    for name, check in checks.items():
        for checked in _results(name, check, config):
            print(health.text(checked), flush=True)
            results.append(checked)
    if config.output is not None:
        _write(config.output, results)
    unusable = [checked for checked in results if checked.verdict == health.UNUSABLE]
    if unusable:
        raise InputError("; ".join(f"{checked.name} is {checked.sentence}" for checked in unusable))


def _results(name: str, check: Callable[[video_checks.Progress], list[Checked]], config: Config) -> Sequence[Checked]:
    """The results of one check; a set that cannot be copied or opened is a result too, and the others go on."""
    try:
        return check(Announced())
    except InputError as error:
        places = (operator.attrgetter(setting)(config) for setting in (SETS[name], OTHERWISE.get(name, SETS[name])))
        return [health.failed(name, next((place for place in places if place is not None), ""), error)]


def _refuse_absent(config: Config) -> None:
    """Name every place that does not exist; what lies in object storage is seen when it is read."""
    absent = [
        f"{name}={place}"
        for name, setting in SETS.items()
        if (place := command.local_path_of(config, setting)) is not None and not Path(place).exists()
    ]
    if absent:
        raise InputError(f"expected existing files or folders, found none at {', '.join(absent)}; correct the paths")


def checks_of(config: Config) -> dict[str, Callable[[video_checks.Progress], list[Checked]]]:
    """What the settings name -> the function that checks it."""
    data = config.data
    out: dict[str, Callable[[video_checks.Progress], list[Checked]]] = {}

    def add(name: str, wanted: object, check: Check, *groups: str) -> None:
        """``groups``: settings whose files are copied to this machine where they lie in object storage."""
        if wanted is not None:
            out[name] = lambda progress: _as_given(config, mirror.localised(config, *groups), check, progress)

    add("mano", config.mano.path, set_checks.mano, "mano")
    add("objects", data.ho3d.object_models, set_checks.objects, "data.ho3d.object_models")
    add("ho3d", data.ho3d.root, set_checks.ho3d, "mano", "data.ho3d")
    add(
        "freihand",
        data.freihand.root or data.freihand.evaluation_root,
        set_checks.freihand_sets,
        "mano",
        "data.freihand",
    )
    add("videos", config.videos.root or config.videos.boxes, video_checks.check, "videos.boxes")
    add("pseudo", data.pseudo.labels, label_checks.check, "mano")
    add("checkpoint", config.evaluate.checkpoint, _network)
    return out


def _as_given(config: Config, near: Config, check: Check, progress: video_checks.Progress) -> list[Checked]:
    """The results of a check on ``near``, whose copies of what lies in object storage keep the names of ``config``."""
    names = {get(near): get(config) for get in map(operator.attrgetter, SETS.values())}
    return [replace(checked, place=names.get(checked.place) or checked.place) for checked in check(near, progress)]


def _network(config: Config, progress: video_checks.Progress) -> list[Checked]:
    assert config.evaluate.checkpoint is not None
    place = config.evaluate.checkpoint
    try:
        data = read_uri(place) if "://" in place else place
    except InputError as error:
        return [health.failed("checkpoint", place, error)]
    return [set_checks.network(config, data, place)]


class Announced:
    """Prints how far a long check is, now and then, to stderr."""

    def __init__(self) -> None:
        self._next = time.monotonic() + EVERY_S

    def __call__(self, what: str, done: int, total: int) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY_S
            print(f"{what}: {done:,}{f' of {total:,}' if total else ''}", file=sys.stderr, flush=True)


def _write(output: str, results: Sequence[Checked]) -> None:
    store = open_store(output)
    for checked in results:
        if checked.sheet is not None:
            store.put(health.sheet_name(checked), checked.sheet)
    store.put("doctor.json", json.dumps([health.as_json(checked) for checked in results], indent=1).encode())
    store.put("doctor.html", health.render(results).encode())
    print(f"report: {store.uri('doctor.html')}")


def named(argv: Sequence[str]) -> list[str]:
    """The command line with ``cluster`` and the words of ``SETS`` replaced by the settings that they stand for.

    Raises:
        InputError: a set is given twice, of which only the last would be checked.
    """
    out, given = [], dict[str, str]()
    for number, word in enumerate(argv):
        if number == 0 and word == "cluster":
            out.append("doctor.cluster=true")
            continue
        name, equals, value = word.partition("=")
        setting = SETS.get(name, name)
        if equals and setting in given and setting in SETS.values():
            raise InputError(
                f"{given[setting]} and {word} name one set; one command checks one place of each, so run two"
            )
        given[setting] = word
        out.append(f"{setting}={value}" if equals else word)
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    try:
        words = named(sys.argv[1:] if argv is None else argv)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return command.run(job, __doc__, words)


if __name__ == "__main__":
    sys.exit(main())
