"""The arguments of a call or an event, as JSON on the command line or on stdin."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from resilient_rpc.cli.fail import USAGE, fail

ARGUMENTS = "Arguments: a JSON object or array; - reads them from stdin."


def read_arguments(text: str) -> Any:
    """What they are; ``-``: what stdin holds. Ends the command if they are not arguments."""
    try:
        arguments = msgspec.json.decode(sys.stdin.read() if text == "-" else text)
    except (msgspec.DecodeError, RecursionError) as error:
        fail(f"the arguments are not JSON: {error}", USAGE)
    if not isinstance(arguments, dict | list):
        fail("the arguments are a JSON object (by name) or array (by position)", USAGE)
    return arguments
