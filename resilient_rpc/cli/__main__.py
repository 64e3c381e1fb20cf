"""``python -m resilient_rpc.cli``."""

from __future__ import annotations

from resilient_rpc.cli import main

main()
