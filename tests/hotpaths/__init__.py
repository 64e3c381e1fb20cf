"""A guard for the hot paths: how many Python instructions a call costs, kept for each version of Python.

Times on a busy machine tell nothing; instructions are the same on every machine, to within a per cent or two. What C
does (codecs, locks, asyncio's tasks) is not counted. ``python -m tests.hotpaths`` shows them; ``--keep`` writes them
down, after a change that is meant to cost what it costs.
"""
