"""Every input in a real S3 server and nothing mounted: the results are those of local folders.

Labelling runs without Ray here; test_faults does the same as a user does, on Ray.
"""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import labelled
import pytest
import wild

from cluster import scoring
from cluster.labelling import commits
from cluster.labelling.run import label
from cluster.sources import list_videos
from cluster.store import open_store
from cluster.training import data as training_data
from hojoint import config as settings
from hojoint.hand.stand_in.model import save_model, stand_in_model

pytestmark = [pytest.mark.s3, pytest.mark.slow]


def test_videos_boxes_and_hand_in_a_bucket_make_the_same_labels(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wild.without_ray(monkeypatch)
    made = wild.write_faulty(tmp_path / "made")
    (made / "videos" / "100.webm").rename(made / "videos" / "100 ü.webm")
    boxes = json.loads((made / "boxes.json").read_text())
    boxes["100 ü"] = boxes.pop("100")
    wild.write_boxes(made, boxes)
    (made / "mano").mkdir()
    save_model(stand_in_model(), made / "mano" / "MANO_RIGHT.pkl")
    hand = {"path": str(made / "mano" / "MANO_RIGHT.pkl")}
    config = wild.config_of(made, tmp_path / "local", mano=hand)
    labelled.write_teacher(settings.changed(config, model=wild.TINY.model_dump()), made / "teacher.pt")
    expected = label(config)
    remote = wild.in_bucket(config, made, f"{bucket}/in")
    wild.upload(made / "mano", f"{bucket}/in/mano")
    remote = settings.changed(
        remote,
        output=f"{bucket}/out",
        mano={"path": f"{bucket}/in/mano/MANO_RIGHT.pkl"},
        cluster={"cache": str(tmp_path / "cache")},
    )
    shutil.rmtree(made)
    report = label(remote)
    for name in ("videos", "frames", "quarantine", "units"):
        assert report[name] == expected[name], name
    for table in ("predictions", "pseudo_labels"):
        wild.assert_same_rows(wild.rows_of(f"{bucket}/out", table), wild.rows_of(tmp_path / "local", table))
    one, other = (commits.read_run(open_store(place)) for place in (f"{bucket}/out", str(tmp_path / "local")))
    assert one["fingerprint"] == other["fingerprint"]
    assert label(remote) == report


def test_labelled_sets_in_a_bucket_are_the_same_sets(tmp_path: Path, bucket: str) -> None:
    config = labelled.draw_world(tmp_path / "world")
    config = settings.changed(config, train={"datasets": ("ho3d",)}, cluster={"cache": str(tmp_path / "cache")})
    expected = training_data.open_data(config).fingerprints()
    truth = {domain: scoring.open_domain(domain, config).truth() for domain in ("ho3d", "freihand")}
    wild.upload(tmp_path / "world", f"{bucket}/sets")
    shutil.rmtree(tmp_path / "world")
    ho3d = {"root": f"{bucket}/sets/HO3D_v2", "object_models": None}
    remote = settings.changed(config, data={"ho3d": ho3d, "freihand": {"root": f"{bucket}/sets/FreiHAND_pub_v2_eval"}})
    assert training_data.open_data(remote).fingerprints() == expected
    for domain, arrays in truth.items():
        for got, array in zip(scoring.open_domain(domain, remote).truth(), arrays, strict=True):
            assert (got == array).all()


def test_a_listing_of_several_pages_is_complete(bucket: str) -> None:
    store = open_store(f"{bucket}/many")
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: store.put(f"{n}.webm", b""), range(1100)))
    assert [entry.video_id for entry in list_videos(f"{bucket}/many")] == sorted(str(n) for n in range(1100))
