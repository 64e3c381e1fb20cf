from __future__ import annotations

import builtins
import importlib
import sys
import tracemalloc
import types
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.errors import ConfigurationError, MalformedMessage, TooLarge
from resilient_rpc.wire import inflate
from resilient_rpc.wire.inflate import encoding

NAMES = ["deflate", "zstd"]
MIB = 1024 * 1024
BOMB = 100 * MIB


@pytest.mark.parametrize("name", NAMES)
@given(body=st.binary(max_size=2_000), level=st.integers(1, 9))
def test_what_was_compressed_is_inflated_again(name: str, body: bytes, level: int) -> None:
    found = encoding(name)
    assert found.inflate(found.compress(body, level), len(body) or 1) == body


@pytest.mark.parametrize("name", NAMES)
def test_at_the_limit_it_is_taken_and_one_byte_above_refused(name: str) -> None:
    found = encoding(name)
    assert found.inflate(found.compress(b"x" * 1000, 1), 1000) == b"x" * 1000
    with pytest.raises(TooLarge, match="over the limit of 1000 bytes"):
        found.inflate(found.compress(b"x" * 1001, 1), 1000)


@pytest.mark.parametrize("name", NAMES)
def test_a_bomb_costs_no_more_than_the_limit(name: str) -> None:
    found = encoding(name)
    bomb = found.compress(bytes(BOMB), 9)
    assert len(bomb) < 110_000
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            found.inflate(bomb, 4 * MIB)
        assert tracemalloc.get_traced_memory()[1] < 20 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_cut_off_anywhere_is_refused(name: str) -> None:
    found = encoding(name)
    data = found.compress(b"some text that is long enough " * 10, 1)
    for end in range(len(data)):
        with pytest.raises(MalformedMessage, match="cut off"):
            found.inflate(data[:end], 1000)


@pytest.mark.parametrize("name", NAMES)
def test_what_follows_is_refused_even_a_second_stream(name: str) -> None:
    found = encoding(name)
    data = found.compress(b"text", 1)
    for more in (b"x", data):
        with pytest.raises(MalformedMessage, match="something follows"):
            found.inflate(data + more, 1000)


@pytest.mark.parametrize("name", NAMES)
def test_one_layer_is_taken_off_and_no_more(name: str) -> None:
    found = encoding(name)
    once = found.compress(b"text", 1)
    assert found.inflate(found.compress(once, 1), 1000) == once


@pytest.mark.parametrize("name", NAMES)
@given(data=st.binary(max_size=200))
def test_nothing_else_is_raised_whatever_arrives(name: str, data: bytes) -> None:
    found = encoding(name)
    for text in (data, found.compress(data, 1)[:-1] + b"\xff", found.compress(b"x", 1)[:2] + data):
        try:
            assert type(found.inflate(text, 100)) is bytes
        except (MalformedMessage, TooLarge):
            continue


@pytest.mark.parametrize("name", NAMES)
def test_the_stream_of_another_encoding_is_refused(name: str) -> None:
    other = encoding(NAMES[1 - NAMES.index(name)])
    with pytest.raises(MalformedMessage, match=f"not {name}"):
        encoding(name).inflate(other.compress(b"text" * 100, 1), 1000)


def test_deflate_with_a_dictionary_of_its_own_is_refused() -> None:
    writer = zlib.compressobj(zdict=b"sku qty price")
    data = writer.compress(b"sku qty price") + writer.flush()
    with pytest.raises(MalformedMessage, match="not deflate"):
        encoding("deflate").inflate(data, 1000)


def test_a_window_larger_than_the_standard_asks_for_is_refused() -> None:
    frame = bytes.fromhex("28b52ffd") + b"\x00" + bytes([(24 - 10) << 3]) + b"\x01\x00\x00"  # 16 MiB
    with pytest.raises(MalformedMessage, match="not zstd"):
        encoding("zstd").inflate(frame, 1000)


@pytest.mark.parametrize("name", ["gzip", "", "DEFLATE", "zlib"])
def test_no_other_encoding_exists(name: str) -> None:
    with pytest.raises(ConfigurationError, match="there are 'deflate' and 'zstd'"):
        encoding(name)


def test_where_the_standard_library_has_zstd_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    zstd = importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    package, module = types.ModuleType("compression"), types.ModuleType("compression.zstd")
    vars(module).update(vars(zstd))
    package.zstd = module  # type: ignore[attr-defined]
    monkeypatch.setattr(inflate, "sys", types.SimpleNamespace(version_info=(3, 14)))
    monkeypatch.setitem(sys.modules, "compression", package)
    monkeypatch.setitem(sys.modules, "compression.zstd", module)
    monkeypatch.setitem(sys.modules, "backports", None)  # it cannot be imported
    found = encoding("zstd")
    assert found.inflate(found.compress(b"text" * 100, 1), 1000) == b"text" * 100


def test_without_its_package_zstd_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **more: Any) -> Any:
        if name in {"backports", "compression"}:
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ConfigurationError, match=r"pip install 'resilient-rpc\[zstd\]'"):
        encoding("zstd")
