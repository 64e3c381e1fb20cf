"""The queue of the service itself: its messages are calls, whose senders are answered."""

from __future__ import annotations

import logging
from dataclasses import replace

from resilient_rpc import events
from resilient_rpc.contract import Methods
from resilient_rpc.errors import ConfigurationError, Refused
from resilient_rpc.serving.answers import Answers
from resilient_rpc.serving.control import Control
from resilient_rpc.serving.door import Door
from resilient_rpc.serving.inlet import Desk, Inlet, Plumbing
from resilient_rpc.serving.intake import BadAddress, Intake
from resilient_rpc.serving.job import Letter
from resilient_rpc.transport.base import Consumer, Delivery, QueueSpec
from resilient_rpc.wire.codec import JSON

log = logging.getLogger(__name__)


class Requests(Inlet):
    """See the module."""

    def __init__(
        self,
        queue: QueueSpec,
        desk: Desk,
        answers: Answers,
        shared: Plumbing,
        *,
        methods: Methods,
        intake: Intake,
        control: Control,
    ) -> None:
        filters, limits = shared.filters, shared.options.limits
        super().__init__(queue, desk, shared, cuttable=filters is None, methods=methods)
        self._answers, self._intake, self._control = answers, intake, control
        self._door: Door | None = None
        if filters is not None:
            self._door = Door(filters, limits, queue.name, shared.hub, answers.refuse)

    async def _open(self) -> Consumer:
        try:
            return await super()._open()
        except ConfigurationError as error:
            if not self._spec.fanout:
                raise
            session = await self._consume(replace(self._spec, fanout=""))
            log.warning("broadcasts are not heard here: %s", error)  # the rights for it are missing: it can do without
            return session

    def control(self, delivery: Delivery) -> None:
        """See `ConsumerEvents`."""
        self._control.received(delivery)

    def _letter(self, session: Consumer, delivery: Delivery) -> Letter | None:
        try:
            return self._intake.open(session, delivery)
        except BadAddress as error:
            self._hub.emit(
                events.ReplyRefused(reply_to=str(delivery.properties.get("reply_to"))[:80], reason=str(error))
            )
            self._drop(session, delivery, error)
            return None

    def _drop(self, session: Consumer, delivery: Delivery, error: BadAddress) -> None:
        """Nobody can be told, and nothing of it is read."""
        letter = Letter(session, delivery, reply_to="", correlation_id=None, codec=JSON, ours=False)
        letter.deaths.append((-1, "refused", error))
        self._desk.letters[letter] = letter
        self.home.dead.bury(letter)

    def _accept(self, letter: Letter) -> None:
        delivery, desk = letter.delivery, self._desk
        if desk.senders is not None:
            try:
                letter.user = desk.senders.sender(delivery.properties)
            except Refused as error:
                self._answers.refuse(letter, None, error)
                return
        if self._door is not None:
            admitted = self._door.admit(letter, delivery)
            if admitted is None:
                return
            delivery = admitted
        if letter.returns:  # only from here on: filters believe the broker alone, for anybody can write a header
            delivery.redelivered = True
        jobs = self._intake.read(letter, delivery)
        control = self._control
        if control.early.marks:
            jobs = control.sieve(jobs)
        if jobs:
            desk.run(jobs)
            if not control.awake:
                control.wake()
