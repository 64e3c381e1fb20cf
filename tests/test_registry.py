"""Policies and filters by name."""

from __future__ import annotations

import logging
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resilient_rpc import Call, ConfigurationError, Handler, Policy, Reply, policies, registry
from resilient_rpc.chain import check_order
from resilient_rpc.policies import AttemptTimeout, Deadline
from resilient_rpc.registry import known_policies, load_policy, policy

MODULE = "a_plugin_for_tests"
Install = Callable[..., None]


class Twice:
    """A policy of somebody else's."""

    def __init__(self, pause: float = 1.0) -> None:
        self.pause = pause

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        return await proceed(call)


class Rot13:
    """A filter."""

    def outgoing(self, message: Any) -> Any:
        return message

    def incoming(self, message: Any) -> Any:
        return message


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts the metadata of a distribution on the path, and things into the module that it names."""
    monkeypatch.syspath_prepend(tmp_path)
    module = types.ModuleType(MODULE)
    monkeypatch.setitem(sys.modules, MODULE, module)

    def install(distribution: str, group: str = "resilient_rpc.policies", **points: Any) -> None:
        folder = tmp_path / f"{distribution.replace('-', '_')}-1.2.dist-info"
        folder.mkdir()
        folder.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        lines = [f"[{group}]"]
        for name, found in points.items():
            lines.append(f"{name} = {found if isinstance(found, str) else f'{MODULE}:{name}'}")
            if not isinstance(found, str):
                setattr(module, name, found)
        folder.joinpath("entry_points.txt").write_text("\n".join(lines) + "\n")

    return install


def test_what_is_built_in_has_its_name_in_snake_case() -> None:
    assert load_policy("deadline") is Deadline
    assert load_policy("attempt_timeout") is AttemptTimeout
    assert known_policies()["deadline"].origin == "built in"
    assert not known_policies()["deadline"].problem


def test_every_built_in_policy_has_a_name() -> None:
    loaded = {load_policy(name) for name, known in known_policies().items() if known.origin == "built in"}
    assert loaded == {
        found
        for name in policies.__all__
        if isinstance(found := getattr(policies, name), type) and "__call__" in vars(found)
    }


def test_a_policy_is_made_with_its_settings() -> None:
    made = policy("deadline", limit=20.0)
    assert isinstance(made, Deadline)
    assert made.limit == 20.0


def test_a_setting_that_it_does_not_have_is_named_with_the_nearest() -> None:
    with pytest.raises(
        ConfigurationError, match=r"'deadline' has no setting 'limits'; did you mean 'limit'. known: limit$"
    ):
        policy("deadline", limits=20.0)
    with pytest.raises(
        ConfigurationError, match=r"'attempt_timeout' has no setting 'xyz'; known: limit, repeatable_only$"
    ):
        policy("attempt_timeout", xyz=1)


def test_a_setting_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"the policy 'deadline' does not take these settings: .*'limit'"):
        policy("deadline")


def test_a_plug_in_that_fails_with_its_settings_is_named(install: Install) -> None:
    def broken(pause: float) -> Any:
        return Twice(1 / pause)

    install("resilient-broken", broken=broken)
    with pytest.raises(ConfigurationError, match=r"'broken' of resilient-broken 1\.2 .* cannot be made: ZeroDivision"):
        policy("broken", pause=0)
    with pytest.raises(ConfigurationError, match=r"'broken' of resilient-broken 1\.2 .* does not take .*'pauses'"):
        policy("broken", pauses=0)


@pytest.mark.parametrize("name", [None, 3, b"retry"])
def test_a_name_is_a_text(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="the name of a policy is a text, not "):
        load_policy(name)


def test_its_own_refusal_of_a_setting_comes_through() -> None:
    with pytest.raises(ConfigurationError, match=r"Deadline\.limit must be more than 0"):
        policy("deadline", limit=-1)


def test_a_plug_in_is_found_by_name(install: Install) -> None:
    install("resilient-twice", Twice=Twice)
    assert load_policy("Twice") is Twice
    made = policy("Twice", pause=3.0)
    assert isinstance(made, Policy)
    check_order([made])
    assert known_policies()["Twice"].origin == f"resilient-twice 1.2 ({MODULE}:Twice)"
    assert not known_policies()["Twice"].problem


def test_a_plug_in_may_be_a_function_that_makes_the_policy(install: Install) -> None:
    install("resilient-twice", twice=lambda pause: Twice(pause * 2))
    made = policy("twice", pause=3.0)
    assert isinstance(made, Twice)
    assert made.pause == 6.0


def test_what_such_a_function_makes_must_be_a_policy(install: Install) -> None:
    install("resilient-twice", twice=lambda: "no policy", kind=lambda: Twice)
    with pytest.raises(
        ConfigurationError, match=r"'twice' of resilient-twice 1\.2 .* is a function that made 'no policy'"
    ):
        policy("twice")
    with pytest.raises(ConfigurationError, match=r"made <class '.*Twice'>, which is none"):
        policy("kind")


def test_a_wrong_name_is_answered_with_the_nearest_and_all(install: Install) -> None:
    install("resilient-twice", twice=Twice)
    with pytest.raises(ConfigurationError, match=r"no policy 'DeadLin'; did you mean 'deadline'\? known: .*twice"):
        load_policy("DeadLin")
    with pytest.raises(ConfigurationError, match=r"did you mean 'attempt_timeout'\?"):
        load_policy("AttemptTimeout")
    with pytest.raises(ConfigurationError, match="no policy 'xyz'; known: "):
        load_policy("xyz")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ("no_such_module_anywhere:Policy", "cannot be loaded: ModuleNotFoundError: .*no_such_module_anywhere"),
        (f"{MODULE}:Missing", "cannot be loaded: AttributeError"),
        (7, "is 7; expected a class"),
        (Path, "is no policy: Path has no __call__"),
    ],
    ids=["no module", "no object", "no class", "no policy"],
)
def test_a_broken_plug_in_is_named_and_breaks_no_other(install: Install, found: Any, message: str) -> None:
    install("resilient-broken", broken=found)
    install("resilient-twice", twice=Twice)
    with pytest.raises(ConfigurationError, match=rf"the policy 'broken' of resilient-broken 1\.2 .*{message}"):
        load_policy("broken")
    assert load_policy("twice") is Twice
    assert set(known_policies()) >= {"broken", "twice", "deadline"}


def test_a_plug_in_that_ends_the_program_when_it_is_imported_does_not(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.joinpath("ends_the_program.py").write_text("raise SystemExit(3)\n")
    install("resilient-broken", broken="ends_the_program:Policy")
    with pytest.raises(
        ConfigurationError, match=r"'broken' of resilient-broken 1\.2 .* cannot be loaded: SystemExit: 3"
    ):
        load_policy("broken")


def test_a_built_in_name_cannot_be_taken_and_the_attempt_is_reported(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("resilient-twice", deadline=Twice)
    known = known_policies()["deadline"]
    assert known.origin == "built in"
    assert "resilient-twice 1.2" in known.problem
    assert not caplog.records
    assert load_policy("deadline") is Deadline
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(logging.WARNING, known.problem)]


def test_a_name_that_two_offer_is_nobodys(install: Install) -> None:
    install("resilient-twice", twice=Twice)
    install("another-twice", twice=Twice)
    install("resilient-other", other=Twice)
    message = "resilient-twice 1.2 .* and by another-twice 1.2|another-twice 1.2 .* and by resilient-twice 1.2"
    with pytest.raises(ConfigurationError, match=message):
        load_policy("twice")
    assert known_policies()["twice"].problem
    assert load_policy("other") is Twice


def test_one_distribution_that_is_seen_twice_is_one(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("resilient-twice", twice=Twice)
    points = [*registry.entry_points(group="resilient_rpc.policies")]
    monkeypatch.setattr(registry, "entry_points", lambda group: [*points, *points])
    assert load_policy("twice") is Twice


def test_an_entry_point_without_a_distribution_is_still_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = registry.EntryPoint("lost", "nowhere:Lost", "resilient_rpc.policies")
    monkeypatch.setattr(registry, "entry_points", lambda group: [lost])
    with pytest.raises(ConfigurationError, match=r"'lost' of an unknown distribution \(nowhere:Lost\)"):
        load_policy("lost")


def test_filters_have_a_group_of_their_own(install: Install) -> None:
    install("resilient-rot", "resilient_rpc.filters", rot13=Rot13, twice=Twice)
    assert isinstance(registry.filters.make("rot13", {}), Rot13)
    with pytest.raises(ConfigurationError, match="is no filter: Twice has no outgoing and no incoming"):
        registry.filters.load("twice")
    with pytest.raises(ConfigurationError, match=r"there is no filter 'rot'; did you mean 'rot13'\?"):
        registry.filters.load("rot")


def test_without_any_the_message_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: [])
    with pytest.raises(ConfigurationError, match=r"known: compression$"):
        registry.filters.load("rot")
    with pytest.raises(ConfigurationError, match="known: none"):
        registry.Registry("resilient_rpc.codecs", "codec", methods=()).load("rot")


def test_nothing_is_imported_before_it_is_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "lazy-1.dist-info"
    folder.mkdir()
    folder.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: lazy\nVersion: 1\n")
    folder.joinpath("entry_points.txt").write_text("[resilient_rpc.policies]\nlazy = lazy_plugin:Lazy\n")
    tmp_path.joinpath("lazy_plugin.py").write_text("print('imported')\nclass Lazy:\n    def __call__(self): ...\n")
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "from resilient_rpc.registry import known_policies, load_policy\n"
        "assert 'lazy' in known_policies()\n"
        "load_policy('deadline')\n"
        "print('known')\n"
        "load_policy('lazy')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["known", "imported"]
