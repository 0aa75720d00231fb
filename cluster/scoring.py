"""Evaluation on a cluster: actors that hold one network each predict and judge ranges of rows of a data set.

The truth is put into the object store once. The errors of a range are computed where it was predicted, and the scores
from all errors here, so they are equal to those of one process. A range means the same images everywhere: a node whose
copy of the data is another one is refused. Not here: what the scores are (hojoint.evaluation).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch

from cluster import capacity, session, waiting
from cluster.capacity import Need
from cluster.growing import GrowingPool
from cluster.labelling import sharing, units
from cluster.progress import Bar
from cluster.sources import mirror
from cluster.store import read_uri
from hojoint.config import ClusterConfig, Config
from hojoint.datasets.freihand import FreiHAND
from hojoint.datasets.ho3d import HO3D
from hojoint.evaluation import metrics
from hojoint.evaluation import scores as evaluation
from hojoint.evaluation.examples import attention_cells, attention_tiles, example_rows, make_examples
from hojoint.evaluation.metrics import HandErrors
from hojoint.evaluation.scores import Domain
from hojoint.hand.factory import hand_layer
from hojoint.model import opening
from hojoint.model.network import HOJoint
from hojoint.records import Example
from hojoint.training import prediction
from hojoint.training.prediction import Predictions

ATTENTION = 4  # examples whose attention is drawn
RETRIES = 3  # of an actor that dies, and of the rows it was working on


@dataclass(frozen=True, eq=False)
class Result:
    """The scores and predictions of a network on one data set."""

    scores: dict[str, Any]
    predictions: Predictions  # at the true wrists, with the key points that the data set defines
    listed: int  # images of the set; more than predictions where data.*.missing leaves some out
    examples: list[Example]
    attention: list[np.ndarray]  # (H, W, 3) uint8 RGB, of the first examples


@dataclass(frozen=True)
class Expected:
    """What the driver has opened: every node must find the same."""

    weights_sha256: str
    hand_sha256: str  # of the hand model
    data: Mapping[str, str]  # of one data set, from ``digests_of``


@dataclass(frozen=True, eq=False)
class Judged:
    """The results of a network on every data set that its settings name."""

    config: Config  # as passed to ``evaluate``, with the model, hand and crop of the checkpoint
    sha256: str  # of the weights
    results: dict[Domain, Result]


def evaluate(configs: Sequence[Config], *, progress: bool = True) -> Iterator[Judged]:
    """Measure each ``evaluate.checkpoint`` in turn, with the same actors and truth; the first names the resources."""
    first = configs[0]
    with session.start(first.cluster):
        capacity.feasibility(first.cluster, needs(first))
        size = first.cluster
        remote = ray.remote(num_cpus=size.teacher_cpus, num_gpus=size.teacher_gpus, max_restarts=RETRIES)(Examiner)
        made = remote.options(max_task_retries=RETRIES)
        examiners: list[Any] = [made.remote(first.cluster) for _ in range(first.evaluate.actors[1])]
        pool = GrowingPool(examiners)
        truth: dict[Domain, list[Any]] = {}
        digests: dict[Domain, dict[str, str]] = {}
        try:
            for config in configs:
                network, merged, sha256 = open_measured(config)
                attention_cells(merged)  # refuses cells that the network does not have, before the work
                hand = units.hand_digest(merged)
                results = {}
                for domain in evaluation.domains_of(mirror.localised(config, "data")):
                    dataset = open_domain(domain, merged)
                    dataset.refuse_missing()
                    if domain not in truth:
                        truth[domain] = [ray.put(array) for array in (dataset.roots(), *dataset.truth())]
                        digests[domain] = digests_of(dataset)
                    given = [*truth[domain], Expected(sha256, hand, digests[domain])]
                    results[domain] = _evaluate(merged, network, domain, dataset, given, pool, progress)
                yield Judged(merged, sha256, results)
        finally:
            for examiner in examiners:
                ray.kill(examiner)


def open_measured(config: Config, *, check_hand: bool = True) -> tuple[HOJoint, Config, str]:
    """The network of ``evaluate.checkpoint``, ``config`` with the checkpoint's settings, and the weights' checksum.

    ``check_hand`` as in ``opening.open_teacher``.
    """
    path = str(config.evaluate.checkpoint)
    return opening.open_teacher(read_uri(path), config, path, mirror.with_hand, check_hand=check_hand)


def open_domain(domain: Domain, config: Config) -> HO3D | FreiHAND:
    """The evaluation split of a data set, copied to this node where it lies in object storage."""
    return evaluation.open_domain(domain, mirror.localised(config, "mano", f"data.{domain}"))


def digests_of(dataset: HO3D | FreiHAND) -> dict[str, str]:
    """What every node must have the same of an evaluation set -> its digest.

    Raises:
        InputError: a listed image lacks a file and is not left out.
    """
    objects = {"object models": dataset.objects_fingerprint()} if isinstance(dataset, HO3D) else {}
    return {"list of images and their files": dataset.fingerprint()} | objects


def needs(config: Config) -> list[Need]:
    """What must fit into the cluster."""
    size = config.cluster
    return [Need("evaluation actors", config.evaluate.actors[0], size.teacher_cpus, size.teacher_gpus)]


class Examiner:
    """One network at a time on one device; plain Python, which Ray makes an actor."""

    def __init__(self, size: ClusterConfig) -> None:
        torch.set_num_threads(size.threads or max(1, int(size.teacher_cpus)))
        self._device = "cuda" if size.teacher_gpus > 0 else "cpu"
        self._opened: Config | None = None
        self._compared: dict[Domain, Any] = {}

    def _open(self, config: Config, expected: Expected | None) -> None:
        if self._opened == config:
            return
        network, _, sha256 = open_measured(config, check_hand=expected is None)
        if expected is not None:
            what = f"the weights of evaluate.checkpoint={config.evaluate.checkpoint}"
            sharing.check_same(what, expected.weights_sha256, sha256)
            sharing.check_hand(config, expected.hand_sha256)
        self._network = network.to(self._device)
        self._layer = hand_layer(mirror.localised(config, "mano").mano).to(self._device)
        self._datasets: dict[Domain, HO3D | FreiHAND] = {}
        self._opened = config

    def examine(
        self,
        config: Config,
        domain: Domain,
        rows: range,
        roots: np.ndarray,
        joints: np.ndarray,
        vertices: np.ndarray,
        expected: Expected | None = None,
    ) -> tuple[Predictions, HandErrors]:
        """Predict some rows of a data set and judge them; roots, joints and vertices are those of all rows.

        ``config`` holds the model, hand and crop of the checkpoint; None as ``expected`` is not compared.

        Raises:
            InputError: this node has other weights, another hand or other data than the driver.
        """
        with waiting.full_disk_named():
            self._open(config, expected)
            config = mirror.localised(config, "mano", f"data.{domain}")
            dataset = self._dataset(config, domain, expected)
            predictions = prediction.predict(
                self._network,
                dataset,
                config,
                self._layer,
                models=dataset.models if isinstance(dataset, HO3D) else None,
                device=self._device,
                batch_size=config.evaluate.batch_size,
                rows=rows,
            )
            part = slice(rows.start, rows.stop)
            predictions = evaluation.placed(predictions, roots[part], domain, config)
            errors = metrics.hand_errors(predictions.joints, predictions.vertices, joints[part], vertices[part])
            return predictions, errors

    def _dataset(self, config: Config, domain: Domain, expected: Expected | None) -> HO3D | FreiHAND:
        if domain not in self._datasets:
            dataset = open_domain(domain, config)
            if expected is not None:
                self._compare(config, domain, dataset, expected.data)
            self._datasets[domain] = dataset
        return self._datasets[domain]

    def _compare(self, config: Config, domain: Domain, dataset: HO3D | FreiHAND, expected: Mapping[str, str]) -> None:
        """Refuse another set than the driver's: its rows would be judged by the truth of other images.

        For the next network on the same list the files are not read again.
        """
        known = (getattr(config.data, domain), dataset.names, expected)
        if self._compared.get(domain) == known:
            return
        for name, found in digests_of(dataset).items():
            sharing.check_same(f"the {name} of {dataset.root}", expected[name], found)
        self._compared[domain] = known


def _evaluate(
    config: Config,
    network: HOJoint,
    domain: Domain,
    dataset: HO3D | FreiHAND,
    given: Sequence[Any],  # to ``examine``, after the rows
    pool: GrowingPool,
    progress: bool,
) -> Result:
    step = config.evaluate.shard_images
    ranges = [range(start, min(start + step, len(dataset))) for start in range(0, len(dataset), step)]
    parts = []
    with Bar(f"{config.name} on {domain}", "image", total=len(dataset), shown=progress) as bar:
        answers = pool.map(lambda actor, rows: actor.examine.remote(config, domain, rows, *given), ranges)
        for rows, answer in zip(ranges, answers, strict=True):  # in order
            parts.append(answer)
            bar.move(rows.stop)
    predictions = prediction.joined([predicted for predicted, _ in parts])
    errors = metrics.merge([judged for _, judged in parts])
    models = dataset.models if isinstance(dataset, HO3D) else None
    judged_alone = {"left_out": len(dataset.left_out)} if dataset.left_out else {}
    shown = example_rows(len(dataset), config.evaluate.examples)
    return Result(
        scores=evaluation.scores(predictions, errors, models, domain) | judged_alone,
        predictions=predictions,
        listed=len(dataset.listed),
        examples=make_examples(dataset, shown, predictions, errors, models, config),
        attention=attention_tiles(network, dataset, shown[:ATTENTION], config) if models else [],
    )
