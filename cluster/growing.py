"""Actors that take tasks as soon as they run: those that the cluster cannot hold yet join when it can.

``ray.util.ActorPool`` gives a task to every actor, running or not, so a task could wait without end for an actor that
never starts while others are idle. Not here: what the actors do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from cluster import waiting
from cluster.labelling.stalls import Watch

T = TypeVar("T")


class GrowingPool:
    """A pool of actor handles; it neither makes nor ends them."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self._starting: dict[Any, Any] = {actor.__ray_ready__.remote(): actor for actor in actors}
        self._idle: list[Any] = []

    def map(self, send: Callable[[Any, T], Any], tasks: Sequence[T]) -> Iterator[Any]:
        """The answers in the order of the tasks; ``send`` takes an actor and a task and returns Ray's reference.

        A consumer that stops early leaves actors busy; the pool is then of no further use.

        Raises:
            InputError, MachineError, Unavailable: a task raised it, a disk is full, or nothing comes back any more.
            ray.exceptions.RayError: an actor did not start or was lost, or a task failed for another reason.
        """
        watch = Watch(resumes="The same command measures again")
        working: dict[Any, tuple[Any, int]] = {}  # reference -> actor and number of its task
        answers: dict[int, Any] = {}
        sent = handed_on = 0
        while handed_on < len(tasks):
            while self._idle and sent < len(tasks):
                actor = self._idle.pop()
                working[send(actor, tasks[sent])] = (actor, sent)
                sent += 1
            for reference in waiting.first_done([*working, *self._starting], watch.look):
                answer = waiting.result(reference)
                watch.finished(None)
                if reference in working:
                    actor, number = working.pop(reference)
                    answers[number] = answer
                else:
                    actor = self._starting.pop(reference)
                self._idle.append(actor)
            while handed_on in answers:
                yield answers.pop(handed_on)
                handed_on += 1
