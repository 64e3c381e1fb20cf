"""`memory://`: a broker within the process, behind the same port as RabbitMQ, for tests and first steps."""

from resilient_rpc.transport.memory.bus import Bus, QueueView
from resilient_rpc.transport.memory.transport import MemoryTransport

__all__ = ["Bus", "MemoryTransport", "QueueView"]
