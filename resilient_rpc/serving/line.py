"""Calls in the order in which they are to begin: by priority, then by deadline, then as they came."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterator, Sequence

from resilient_rpc.serving.job import Job

SLACK = 0.05
"""Seconds by which a later deadline may stand before an earlier one: a turn in the queue is quicker than sorting."""
NEVER = math.inf


class Line:
    """Calls of one priority.

    Callers that give their calls the same time have deadlines in the order in which they call: then this is a deque.
    The first that has to pass another one makes it a heap, until it is empty.
    """

    __slots__ = ("_heap", "_latest", "earliest", "ready")

    def __init__(self) -> None:
        self.ready: deque[Job] = deque()
        """All of it, while they came in order; the next one stands on the left."""
        self._heap: list[tuple[float, int, Job]] = []
        self._latest = -NEVER
        self.earliest = NEVER
        """No deadline in it is nearer, but it may be that of one that was taken since."""

    def __len__(self) -> int:
        return len(self.ready) + len(self._heap)

    def __iter__(self) -> Iterator[Job]:
        yield from self.ready
        for _, _, job in self._heap:
            yield job

    def extend(self, jobs: Sequence[Job]) -> None:
        """Calls that have arrived."""
        if self._heap:
            for job in jobs:
                self._push(job)
            return
        ready, latest = self.ready, self._latest
        if not ready:
            latest, self.earliest = -NEVER, jobs[0].deadline
        for job in jobs:
            deadline = job.deadline
            if deadline >= latest:
                latest = deadline
            elif deadline >= latest - SLACK:
                self.earliest = min(self.earliest, deadline)
            else:
                ready.extend(jobs)
                self._sort()
                return
        self._latest = latest
        ready.extend(jobs)

    def put_back(self, job: Job) -> None:
        """One that was taken and could not begin: before those that came later."""
        ready = self.ready
        if self._heap:
            self._push(job)
        elif not ready:
            self._latest = -NEVER
            self.extend((job,))
        elif job.deadline > ready[0].deadline + SLACK:
            ready.append(job)
            self._sort()
        else:
            place = 0
            while place < len(ready) and ready[place].number < job.number:
                place += 1
            ready.insert(place, job)
            self.earliest = min(self.earliest, job.deadline)

    def take(self) -> Job | None:
        """The next one, if there is one."""
        if self._heap:
            return heapq.heappop(self._heap)[2]
        return self.ready.popleft() if self.ready else None

    def drop_last(self) -> Job | None:
        """One of those that have most time; of a line in order, the last."""
        if self._heap:
            return self._heap.pop()[2]  # a leaf
        return self.ready.pop() if self.ready else None

    def drop_late(self, now: float) -> list[Job]:
        """Those whose time is up."""
        if self.earliest > now:
            return []
        kept = [job for job in self if job.deadline > now]
        late = [job for job in self if job.deadline <= now]
        self._keep(kept)
        return late

    def remove(self, job: Job) -> bool:
        """Take it out, wherever it stands; False: it is not here."""
        kept = [each for each in self if each is not job]
        found = len(kept) < len(self)
        if found:
            self._keep(kept)
        return found

    def _keep(self, kept: Sequence[Job]) -> None:
        in_order = not self._heap
        self._heap.clear()
        self.ready.clear()
        self.ready.extend(kept)
        self.earliest = min([job.deadline for job in kept], default=NEVER)
        if not in_order:
            self._sort()

    def _push(self, job: Job) -> None:
        heapq.heappush(self._heap, (job.deadline, job.number, job))
        self.earliest = min(self.earliest, job.deadline)

    def _sort(self) -> None:
        self._heap.extend((job.deadline, job.number, job) for job in self.ready)
        self.ready.clear()
        heapq.heapify(self._heap)
        self.earliest = self._heap[0][0] if self._heap else NEVER


class Ranks:
    """Calls of any priority: a line for each.

    While nobody gives priorities or has to be sorted, everything is in `ready`, and whoever is in a hurry takes from
    its left. Once `mixed`, only `take` knows which is the next.
    """

    __slots__ = ("_lines", "_ordinary", "_ranks", "mixed", "ready")

    def __init__(self) -> None:
        self._ordinary = Line()
        self._ranks: dict[int, Line] = {0: self._ordinary}
        self._lines = [self._ordinary]
        """The highest first."""
        self.ready = self._ordinary.ready
        self.mixed = False

    def __len__(self) -> int:
        return sum(map(len, self._lines)) if self.mixed else len(self.ready)

    def __iter__(self) -> Iterator[Job]:
        for line in self._lines:
            yield from line

    def extend(self, jobs: Sequence[Job]) -> None:
        """Calls that came in one message, so with one priority."""
        if not jobs:
            return
        priority = jobs[0].context.priority
        if priority:
            self._line(priority).extend(jobs)
            self.mixed = True
        else:
            self._ordinary.extend(jobs)
            if not self.ready:
                self.mixed = True

    def put_back(self, job: Job) -> None:
        """One that was taken and could not begin."""
        priority = job.context.priority
        self._line(priority).put_back(job)
        if priority or not self.ready:
            self.mixed = True

    def take(self) -> Job | None:
        """The next one, if there is one."""
        for line in self._lines:
            job = line.take()
            if job is not None:
                return job
        self.mixed = False
        return None

    def ahead_of(self, priority: int) -> int:
        """How many would begin before one of this priority that arrives now."""
        return sum(len(line) for rank, line in self._ranks.items() if rank >= priority)

    def drop_last(self) -> Job | None:
        """One of the lowest priority."""
        for line in reversed(self._lines):
            job = line.drop_last()
            if job is not None:
                return job
        return None

    def drop_late(self, now: float) -> list[Job]:
        """Those whose time is up."""
        return [job for line in self._lines for job in line.drop_late(now)]

    def remove(self, job: Job) -> bool:
        """Take it out, wherever it stands; False: it is not here."""
        line = self._ranks.get(job.context.priority)
        return line is not None and line.remove(job)

    def clear(self) -> list[Job]:
        """Give all of them up, in no order."""
        return self.drop_late(NEVER)

    def _line(self, priority: int) -> Line:
        found = self._ranks.get(priority)
        if found is None:
            found = self._ranks[priority] = Line()
            self._lines = [self._ranks[rank] for rank in sorted(self._ranks, reverse=True)]
        return found
