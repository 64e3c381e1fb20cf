"""``resilient-rpc version``."""

from __future__ import annotations

import platform
from importlib.metadata import version as version_of


def version() -> None:
    """Show what runs here: this library, Python and pika."""
    print(
        f"resilient_rpc {version_of('resilient-rpc')} "
        f"({platform.python_implementation()} {platform.python_version()}, pika {version_of('pika')})"
    )
