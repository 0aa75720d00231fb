"""A label set for programs of your own: its tables, and the 3D hands of their rows.

    from cluster.labels import LabelSet

    labels = LabelSet("s3://bucket/labels", mano="MANO_RIGHT.pkl")  # or a folder; without mano: the stand-in hand
    for rows in labels.parts(columns=["clip_id", "frame", "joints_px", "mano_pose", "mano_shape", "flipped"]):
        hands = labels.posed(rows)  # joints (N, 21, 3) and vertices (N, 778, 3), m

Attempts that were killed leave files behind, so only what a commit names is read. This module starts no Ray.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa

from cluster.labelling import commits, label_tables, units
from cluster.sources import mirror
from cluster.store import arrow, open_store
from hojoint.config import Config, changed
from hojoint.errors import InputError
from hojoint.hand.chosen import hand_model
from hojoint.hand.layer import ManoLayer, ManoOutput
from hojoint.labelling import posing, tables

Table = Literal["pseudo_labels", "predictions", "quarantine"]
SCHEMAS = {
    "pseudo_labels": tables.PSEUDO_LABELS_SCHEMA,
    "predictions": tables.PREDICTIONS_SCHEMA,
    "quarantine": commits.QUARANTINE_SCHEMA,
}


class LabelSet:
    """The labels of a complete run of jobs.pseudo_label or jobs.refilter."""

    def __init__(self, place: str | Path, *, mano: str | Path | None = None) -> None:
        """Open the set.

        Args:
            place: the output of the job, a folder or ``s3://bucket/prefix``.
            mano: MANO_RIGHT.pkl or its folder, for ``posed`` alone; None means the stand-in hand.

        Raises:
            InputError: there are no labels, or the run is not complete.
        """
        self._store = open_store(str(place))
        self.run, self._commits = commits.read_complete(self._store)
        self._mano = None if mano is None else str(mano)
        self._layer: ManoLayer | None = None

    def parts(self, table: Table = "pseudo_labels", columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows of one unit after the other, about 64 videos each, so that memory holds one of them.

        Args:
            table: frames to train on, every predicted frame, or the videos that could not be labelled.
            columns: what is read at all, each name once (docs/method.md); None means every column, images included.

        Raises:
            InputError: the set has no such table or column, ``columns`` names none or one twice, or a file cannot be
                read.
        """
        schema = SCHEMAS.get(table)
        if schema is None:
            raise InputError(f"a label set has the tables {', '.join(SCHEMAS)}; found {table!r}")
        if unknown := [name for name in columns or () if name not in schema.names]:
            raise InputError(f"{table} has no column {', '.join(unknown)}; it has {', '.join(schema.names)}")
        if columns is not None and len(set(columns)) != max(1, len(columns)):  # rows without columns have no number
            raise InputError(
                f"expected names of columns of {table}, each once; found {list(columns)}. Name at least one, or leave "
                "columns out for all of them"
            )
        wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
        return self._parts(table, wanted)

    def table(self, table: Table = "pseudo_labels", columns: Sequence[str] | None = None) -> pa.Table:
        """All rows at once; arguments and errors as of ``parts``."""
        return pa.concat_tables(self.parts(table, columns))

    def posed(self, rows: pa.Table) -> ManoOutput:
        """Joints (N, 21, 3) and vertices (N, 778, 3) of the rows' hands, m, wrist at the origin, as in the true image.

        Args:
            rows: with the columns ``mano_pose``, ``mano_shape`` and ``flipped``.

        Raises:
            InputError: the labels are poses of another hand than ``mano``, or its file cannot be read.
        """
        if missing := [name for name in posing.COLUMNS if name not in rows.column_names]:
            raise InputError(
                f"the rows lack the columns {', '.join(missing)}, which a hand is posed from; read them too"
            )
        if self._layer is None:
            self._layer = self._hand()
        return posing.posed(rows, self._layer)

    def _hand(self) -> ManoLayer:
        config = changed(Config(), mano={"path": self._mano})
        units.check_hand(self.run, config, self._store.root)
        fingertips = self.run["fingerprint"].get("mano.fingertips", config.mano.fingertips)
        # A stored pose is complete: nobody adds the mean pose to it again.
        return ManoLayer(hand_model(mirror.localised(config, "mano").mano), fingertips=fingertips)

    def _parts(self, table: Table, wanted: pa.Schema) -> Iterator[pa.Table]:
        last = commits.superseded(self._commits)
        for commit in self._commits:
            key = commit.files[table]
            if table == "quarantine":
                rows = arrow.read_table(self._store, key)
                now = [last.get(name, commit.unit) == commit.unit for name in rows["video_id"].to_pylist()]
                yield rows.filter(pa.array(now, pa.bool_())).select(wanted.names)
            else:
                # Tables of earlier versions lack some columns, which ``label_tables.read`` adds.
                held = arrow.columns_of(self._store, key)
                columns = [name for name in wanted.names if name in held]
                yield label_tables.read(self._store, [key], schema=wanted, columns=columns)
