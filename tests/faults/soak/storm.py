"""Carries out a plan: a thread for each lane."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence

from tests.faults.soak.schedule import Fault
from tests.faults.soak.strikes import Strikes, pause


class Storm:
    """Leaves everything running again, except for links that were reset.

    On a slow machine faults take longer than planned. Then a lane is late, for the peace between faults stays what it
    was planned to be; and it ends after `seconds`, as soon as it has had all of its kinds.
    """

    def __init__(self, strikes: Strikes, plan: Mapping[str, Sequence[Fault]], seconds: float) -> None:
        self._strikes = strikes
        self.errors: list[BaseException] = []
        self._begin, self._seconds = time.monotonic(), seconds
        self._lanes = [
            threading.Thread(target=self._lane, args=(faults,), name=f"soak-{lane}") for lane, faults in plan.items()
        ]

    def run(self) -> None:
        """All of it. Raises what a lane raised: then the run says nothing."""
        for thread in self._lanes:
            thread.start()
        for thread in self._lanes:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def _lane(self, faults: Sequence[Fault]) -> None:
        try:
            missing = {fault.kind for fault in faults}
            for fault in faults:
                pause(max(self._begin + fault.at - time.monotonic(), fault.gap))
                if not missing and time.monotonic() > self._begin + self._seconds:
                    return
                self._strikes.strike(fault)
                missing.discard(fault.kind)
        except BaseException as error:  # a thread's end is nobody's otherwise
            self.errors.append(error)
