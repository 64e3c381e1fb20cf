"""What the numbers depend on."""

from __future__ import annotations

import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import redis

from benchmarks import broker

LIBRARIES = ("resilient-rpc", "pika", "msgspec", "aio-pika", "uvloop", "tenacity", "stamina", "pybreaker")


def environment(url: str | None, redis_url: str = "") -> dict[str, Any]:
    """Machine, servers and versions."""
    found: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "processors": os.cpu_count(),
        "processor": _processor(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load before": f"{psutil.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
    }
    if url is not None:
        found["rabbitmq"] = broker.version(url)
    if redis_url:
        with redis.Redis.from_url(redis_url) as client:
            found["redis"] = client.info("server").get("redis_version", "unknown")
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
