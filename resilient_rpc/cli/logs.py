"""``--log-level``: where the log of a command goes."""

from __future__ import annotations

import logging
from enum import StrEnum


class LogLevel(StrEnum):
    """What is worth a line."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def log_to_stderr(level: LogLevel, *, of_process: bool = False) -> None:
    """Write records of this level and above to stderr; with the process, where several write there."""
    process = "[%(process)d] " if of_process else ""
    logging.basicConfig(level=level.upper(), format=f"%(asctime)s %(levelname)s {process}%(name)s: %(message)s")
