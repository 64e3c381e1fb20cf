"""``--reload``: which files have changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from resilient_rpc.errors import ConfigurationError


async def changes(folders: Sequence[Path]) -> AsyncIterator[list[str]]:
    """The names of Python files that changed below the folders, again and again."""
    from watchfiles import PythonFilter, awatch  # noqa: PLC0415 - an extra, and slow to import

    async for found in awatch(*folders, watch_filter=PythonFilter(), debounce=400):
        yield sorted({_short(name) for _, name in found})


def check_reload(folders: Sequence[Path]) -> None:
    """Raises `ConfigurationError` if they cannot be watched."""
    try:
        import watchfiles  # noqa: F401, PLC0415
    except ImportError:
        raise ConfigurationError("--reload needs watchfiles: pip install 'resilient-rpc[reload]'") from None
    for folder in folders:
        if not folder.is_dir():
            raise ConfigurationError(f"--reload-dir {folder}: there is no such folder")


def _short(name: str) -> str:
    here = Path.cwd()
    path = Path(name)
    return str(path.relative_to(here)) if path.is_relative_to(here) else name
