"""``serve --workers`` and ``serve --reload``: processes that serve, and one that looks after them.

That one never imports the user's module, holds no connection and is never forked: each worker is a new interpreter with
its own, and what it left behind ends with it.
"""
