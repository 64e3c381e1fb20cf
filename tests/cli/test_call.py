"""`call`: results on stdout, one line on stderr, and a number that says whether to try again."""

from __future__ import annotations

import re

import pytest

from resilient_rpc import Server
from tests.cli.conftest import Run


@pytest.mark.parametrize(
    ("args", "printed"),
    [
        (["shop.add", '{"a": 1, "b": 2}'], '{"sum":3}\n'),
        (["shop.add", "[40, 2]"], '{"sum":42}\n'),
        (["shop.nothing"], "null\n"),
        (["shop.greet", '["Jo"]'], '"Grüß Gott, Jo"\n'),
        (["shop.add", "[1]", "--safety", "read_only", "--timeout", "5"], '{"sum":1}\n'),
    ],
)
def test_prints_the_result_as_json_and_nothing_else(run: Run, url: str, args: list[str], printed: str) -> None:
    result = run("call", *args, "--url", url)
    assert (result.exit_code, result.stdout, result.stderr) == (0, printed, "")


def test_reads_arguments_from_stdin(run: Run, url: str) -> None:
    assert run("call", "shop.add", "-", "--url", url, input="[20, 3]").stdout == '{"sum":23}\n'


def test_takes_the_url_from_the_environment(run: Run, url: str) -> None:
    assert run("call", "shop.add", "[1]", env={"RESILIENT_RPC_URL": url}).stdout == '{"sum":1}\n'


def test_names_the_queue_as_its_servers_do(run: Run, url: str) -> None:
    names = {"prefix": "x.", "version": "v2", "environment": "prod"}
    server = Server(url, service="shop", **names)  # type: ignore[arg-type]
    server.method(name="which")(lambda: "v2")
    server.start()
    try:
        options = [text for name, value in names.items() for text in (f"--{name}", value)]
        assert run("call", "shop.which", *options, "--url", url).stdout == '"v2"\n'
        assert run("call", "shop.which", *options[:4], "--url", url).exit_code == 3
        assert run("call", "shop.which", "--version", "a.b", "--url", url).exit_code == 2
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["shop.decline"], 1, "error: ApplicationError (executed): the card was declined\n"),
        (["shop.add", '{"a": "x"}'], 1, "error: InvalidParams (not_executed): "),
        (["shop.none"], 1, "error: MethodNotFound (not_executed): "),
        (["shop.add", "[1]", "--key", "k1"], 1, "error: Refused (not_executed): "),
        (["shop.drain"], 3, "error: Draining (not_executed): stopping\n"),
        (["other.add"], 3, "error: Unroutable (not_executed): "),
        (["shop.interrupt"], 4, "error: Interrupted (unknown): began and lost\n"),
    ],
)
def test_an_error_is_one_line_and_a_number(run: Run, url: str, args: list[str], code: int, said: str) -> None:
    result = run("call", *args, "--url", url)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith(said)
    assert result.stderr.count("\n") == 1


def test_a_handler_that_does_not_end_in_time_leaves_the_outcome_unknown(run: Run, url: str) -> None:
    result = run("call", "shop.sleep", "--url", url, "--timeout", "0.2")
    assert result.exit_code == 4
    # The server says Interrupted at the deadline; who of both is first is a matter of milliseconds.
    assert re.fullmatch(r"error: (DeadlineExceeded|Interrupted) \(unknown\): .*\n", result.stderr)


def test_no_answer_in_time_leaves_the_outcome_unknown(run: Run, service: str) -> None:
    server = Server(f"memory://{service}", service="shop")
    server.method(name="add")(lambda: None)
    server.start()
    server.stop()  # the queue stays
    result = run("call", "shop.add", "--url", f"memory://{service}", "--timeout", "0.3")
    assert result.exit_code == 4
    assert result.stderr == "error: DeadlineExceeded (unknown): shop.add: no answer by the deadline\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["shop.add", "[1"], "error: the arguments are not JSON: "),
        (["shop.add", "17"], "error: the arguments are a JSON object (by name) or array (by position)"),
        (["add"], "error: ConfigurationError (not_executed): method 'add': give it as 'service.method'"),
        (["shop.add", "--timeout", "-1"], "error: ConfigurationError (not_executed): timeout=-1.0: "),
        (["shop.add", "--url", "http://x"], "error: ConfigurationError (not_executed): a URL begins with amqp://"),
        (["shop.add", "--safety", "quite"], "Usage: "),
    ],
)
def test_wrong_usage_is_2(run: Run, url: str, args: list[str], said: str) -> None:
    result = run("call", *args, env={"RESILIENT_RPC_URL": url})
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(said)


def test_without_a_url_it_names_both_ways_to_give_one(run: Run) -> None:
    result = run("call", "shop.add")
    assert result.exit_code == 2
    assert "--url" in result.stderr
    assert "RESILIENT_RPC_URL" in result.stderr


def test_without_a_broker_it_is_not_executed_and_no_password_is_shown(run: Run) -> None:
    result = run("call", "shop.add", "--url", "amqp://joe:sesame@127.0.0.1:1/", "--timeout", "0.5")
    assert result.exit_code == 3
    assert result.stderr.startswith("error: NotConnected (not_executed): ")
    assert "sesame" not in result.output


def test_the_exit_codes_are_documented(run: Run) -> None:
    assert "Exit codes: 0 the result was printed" in run("call", "--help").stdout
