import logging
import re
import ssl

import pytest
from pika import exceptions
from pika.adapters.utils.connection_workflow import AMQPConnectionWorkflowFailed, AMQPConnectorSocketConnectError

from resilient_rpc.errors import ConfigurationError, ConnectionLost, NotConnected
from resilient_rpc.transport.amqp.causes import channel_error, is_mistake, not_connected, root_cause
from resilient_rpc.transport.amqp.connect import cap_pika_logs, parameters
from resilient_rpc.transport.urls import AmqpUrl

REFUSED = ConnectionRefusedError(111, "Connection refused")


def test_the_root_of_what_pika_wrapped() -> None:
    wrapped = exceptions.AMQPConnectionError(AMQPConnectionWorkflowFailed([AMQPConnectorSocketConnectError(REFUSED)]))

    assert root_cause(wrapped) is REFUSED
    assert root_cause(REFUSED) is REFUSED


@pytest.mark.parametrize(
    ("code", "text", "mistake"),
    [
        (403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN", True),
        (403, "ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused", True),
        (530, "NOT_ALLOWED - vhost nowhere not found", True),
        (530, "NOT_ALLOWED - access to vhost '/' refused for user 'x': connection limit (1) is reached", False),
        (406, "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q'", True),
        (406, "PRECONDITION_FAILED - unknown delivery tag 3", False),
        (406, "PRECONDITION_FAILED - message size 20000000 is larger than configured max size 16777216", False),
        (406, "PRECONDITION_FAILED - user_id property set to 'x' but authenticated user was 'y'", True),
        (404, "NOT_FOUND - no queue 'q' in vhost '/'", False),
        (320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'", False),
        (541, "INTERNAL_ERROR", False),
    ],
)
def test_what_will_be_said_again_and_what_will_not(code: int, text: str, mistake: bool) -> None:
    expected = ConfigurationError if mistake else NotConnected

    assert is_mistake(code, text) is mistake
    error = not_connected(exceptions.StreamLostError("lost"), (code, text), "h:1")
    assert type(error) is expected
    assert str(error).partition(" Check user and password")[0] == f"h:1: {code} {text}"


def test_only_a_login_by_password_that_is_refused_says_what_to_look_at() -> None:
    def said(mechanism: str) -> str:
        text = f"ACCESS_REFUSED - Login was refused using authentication mechanism {mechanism}."
        return str(not_connected(exceptions.StreamLostError("lost"), (403, text), "h:1"))

    assert said("PLAIN").endswith(
        "PLAIN. Check user and password of the URL; guest may connect from the broker's own machine only."
    )
    assert said("EXTERNAL").endswith("EXTERNAL.")


def test_why_an_attempt_failed() -> None:
    error = not_connected(exceptions.AMQPConnectionError(REFUSED), None, "h:1")
    assert (type(error), str(error), error.__cause__) == (NotConnected, f"h:1: {REFUSED}", REFUSED)

    assert "AMQP 0-9-1" in str(not_connected(exceptions.IncompatibleProtocolError("x"), None, "h:1"))
    # A cut in the handshake looks like this to pika; only the broker's own word is a refusal.
    assert type(not_connected(exceptions.ProbableAuthenticationError("lost"), None, "h:1")) is NotConnected


def test_why_a_session_ended() -> None:
    lost = exceptions.StreamLostError("Stream connection lost")
    error = channel_error(lost, REFUSED, "h:1", opening=False)
    assert (type(error), str(error), error.__cause__) == (ConnectionLost, f"h:1: {REFUSED}", REFUSED)

    closed = exceptions.ChannelClosedByBroker(404, "NOT_FOUND - no queue")
    assert type(channel_error(closed, None, "h:1", opening=True)) is NotConnected
    error = channel_error(closed, None, "h:1", opening=False)
    assert (type(error), str(error)) == (ConnectionLost, "h:1: 404 NOT_FOUND - no queue")

    # Whatever a broker has against a declaration, it will have against the next one.
    differs = exceptions.ChannelClosedByBroker(406, "PRECONDITION_FAILED - something new")
    assert type(channel_error(differs, None, "h:1", opening=True)) is ConfigurationError
    assert type(channel_error(differs, None, "h:1", opening=False)) is ConnectionLost


def test_texts_of_a_broker_stay_on_one_line_and_end() -> None:
    text = str(not_connected(REFUSED, (541, "a\nb\x1b[31m" + "x" * 5_000), "h:1"))

    assert text.isprintable()
    assert len(text) < 600


def test_pika_is_silenced_unless_somebody_chose_a_level() -> None:
    logger = logging.getLogger("pika")
    before = logger.level
    try:
        logger.setLevel(logging.NOTSET)
        cap_pika_logs()
        assert logger.level == logging.CRITICAL
        logger.setLevel(logging.DEBUG)
        cap_pika_logs()
        assert logger.level == logging.DEBUG
    finally:
        logger.setLevel(before)


def test_what_pika_is_told() -> None:
    url = AmqpUrl(hosts=(("h", 1),), user="u", password="s3cr3t", vhost="v", heartbeat=7, name="orders")
    found = parameters(url, "h", 1, None)

    assert (found.host, found.port, found.virtual_host, found.heartbeat) == ("h", 1, "v", 7)
    assert found.client_properties is not None
    assert "capabilities" not in found.client_properties  # they would take the place of pika's
    assert found.client_properties["connection_name"] == "orders"
    assert found.ssl_options is None
    assert "s3cr3t" not in f"{found!r} {found}"


@pytest.mark.parametrize(
    ("reason", "tls", "text"),
    [
        (ssl.SSLError(1, "tlsv13 alert certificate required"), True, "h:1: TLS: .*certificate required"),
        (
            ConnectionResetError(104, "reset"),
            True,
            "h:1 closed the connection before AMQP began: it does not accept our",
        ),
        (None, True, "h:1 closed the connection before AMQP began"),
        (ConnectionResetError(104, "reset"), False, "h:1 does not speak AMQP"),
    ],
)
def test_an_end_before_amqp_began_says_what_tls_said(reason: BaseException | None, tls: bool, text: str) -> None:
    error = exceptions.IncompatibleProtocolError("unexpected end")
    found = not_connected(error, None, "h:1", reason, tls=tls)
    assert type(found) is NotConnected
    assert re.match(text, str(found))
    assert found.__cause__ in {reason, error}


def test_a_mechanism_that_is_not_offered_is_a_mistake_of_configuration() -> None:
    found = not_connected(exceptions.AuthenticationError("EXTERNAL"), None, "h:1")
    assert type(found) is ConfigurationError
    assert str(found) == "h:1 does not offer the auth_mechanism EXTERNAL"
