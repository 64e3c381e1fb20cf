"""What every test may ask for; the fixtures stand in the plug-ins named here."""

pytest_plugins = [
    "tests.budgets",
    "tests.colours",
    "tests.runtimes",
    "tests.servers.fixtures",
]
