"""What a driver wants to know of the teacher's checkpoint, read in a child process: the driver itself loads no torch.

torch takes half a gigabyte and two seconds, and a driver may live for days beside other things on a small node. Not
here: the network that predicts (``teacher``).
"""

from __future__ import annotations

import hashlib
import multiprocessing
import signal
import sys
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection

from cluster import ending
from cluster.labelling import units
from cluster.sources import mirror
from cluster.store import read_uri
from hojoint.config import Config
from hojoint.errors import InputError, MachineError, Unavailable


@dataclass(frozen=True)
class CheckpointFacts:
    """Of a checkpoint that opens as a network."""

    config: Config  # merged: model, hand model, crop and augmentation are the checkpoint's
    weights_sha256: str
    file_sha256: str
    hand_sha256: str  # of the hand model
    notes: tuple[str, ...]  # settings that the checkpoint replaces, and views that it was not trained for


def facts_of(config: Config) -> CheckpointFacts:
    """Open ``teacher.checkpoint``, in a child process unless this one has loaded torch already.

    Raises:
        InputError: the file is missing or damaged, or is not as ``config`` or ``teacher.sha256`` wants it.
        Unavailable: the store is unreachable.
        MachineError: the child ends without an answer.
    """
    facts = read(config) if "torch" in sys.modules else _asked(config)
    pinned, path = config.teacher.sha256, config.teacher.checkpoint
    if pinned is not None and pinned not in (facts.weights_sha256, facts.file_sha256):
        raise InputError(
            f"teacher.sha256={pinned[:12]}... is neither the checksum of {path} ({facts.file_sha256[:12]}...) nor that "
            f"of its weights ({facts.weights_sha256[:12]}...); set the one of the teacher you mean, or leave "
            "teacher.sha256 out"
        )
    return facts


def read(config: Config) -> CheckpointFacts:
    """As ``facts_of`` in this process, without a look at ``teacher.sha256``."""
    from hojoint.model import opening  # only here: it loads torch

    data = read_uri(str(config.teacher.checkpoint))
    _, merged, sha256 = opening.open_teacher(data, config, near=mirror.with_hand)
    notes = filter(None, [opening.overridden(config, merged), opening.untrained_views(merged)])
    return CheckpointFacts(merged, sha256, hashlib.sha256(data).hexdigest(), units.hand_digest(merged), tuple(notes))


def _asked(config: Config) -> CheckpointFacts:
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(config, writer), daemon=True)
    child.start()
    writer.close()
    try:
        answer = ending.interruptibly(reader.recv)
    except EOFError:
        child.join()
        raise MachineError(
            f"the process that opens {config.teacher.checkpoint} ended without an answer (exit code {child.exitcode}; "
            "-9: it was killed, usually for its memory). Run the same command again where more memory is free"
        ) from None
    finally:
        child.terminate()
        child.join()
        reader.close()
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _answer(config: Config, writer: Connection) -> None:
    """In the child: send the facts or the exception."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # of a terminal it reaches the child too: end without a traceback
    try:
        writer.send(read(config))
    except (InputError, Unavailable, MachineError) as error:
        writer.send(error)
    except Exception as error:
        error.add_note(f"in the process that opens the checkpoint:\n{traceback.format_exc()}")
        writer.send(error)
