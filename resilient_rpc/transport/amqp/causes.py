"""Why a connection or channel ended, said in errors that the caller can act on."""

from __future__ import annotations

import ssl
from typing import Any

from pika import exceptions

from resilient_rpc.errors import ConfigurationError, ConnectionLost, NotConnected

ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, NOT_ALLOWED = 403, 404, 406, 530
_MISTAKES = ("inequivalent arg", "invalid arg", "unknown exchange type", "user_id property")
_LOGIN_REMEDY = " Check user and password of the URL; guest may connect from the broker's own machine only."
_MAX_TEXT = 500


def root_cause(error: BaseException) -> BaseException:
    """The innermost error: pika wraps a failure to connect up to four times."""
    while True:
        inner: Any = getattr(error, "exceptions", None) or getattr(error, "exception", None) or error.args[:1]
        inner = inner[-1] if isinstance(inner, list | tuple) and inner else inner
        if not isinstance(inner, BaseException):
            return error
        error = inner


def is_mistake(code: int, text: str) -> bool:
    """Whether what the broker said in closing will be said again until somebody changes a setting."""
    if code == PRECONDITION_FAILED:  # also said of late acks and of messages that are too large
        return any(mistake in text for mistake in _MISTAKES)
    return code == ACCESS_REFUSED or (code == NOT_ALLOWED and "limit" not in text)


def not_connected(
    error: BaseException,
    said: tuple[int, str] | None,
    where: str,
    reason: BaseException | None = None,
    *,
    tls: bool = False,
) -> Exception:
    """The error for an attempt to connect to `where` that failed.

    `said` is the broker's connection.close, `reason` what ended the stream below it.
    """
    error = root_cause(error)
    if said is not None:
        code, text = said
        kind = ConfigurationError if is_mistake(code, text) else NotConnected
        remedy = _LOGIN_REMEDY if "authentication mechanism PLAIN" in text else ""
        return _caused(kind(f"{where}: {code} {_shown(text)}{remedy}"), error)
    if isinstance(error, exceptions.AuthenticationError):
        return _caused(ConfigurationError(f"{where} does not offer the auth_mechanism {_shown(error)}"), error)
    if isinstance(error, exceptions.IncompatibleProtocolError) and isinstance(reason, ssl.SSLError):
        return _caused(NotConnected(f"{where}: TLS: {_shown(reason)}"), reason)
    if isinstance(error, exceptions.IncompatibleProtocolError) and tls:
        text = "closed the connection before AMQP began: it does not accept our certificate, or is still starting"
        return _caused(NotConnected(f"{where} {text}"), reason or error)
    if isinstance(error, exceptions.IncompatibleProtocolError):
        return _caused(NotConnected(f"{where} does not speak AMQP 0-9-1, or its broker is still starting"), error)
    if isinstance(error, TimeoutError | NotConnected | ConfigurationError):
        return error
    return _caused(NotConnected(f"{where}: {_shown(error)}"), error)


def channel_error(error: BaseException, reason: BaseException | None, where: str, *, opening: bool) -> Exception:
    """The error for a channel, or the connection under it, that ended by `error`; `reason` is what the socket said."""
    kind: type[ConfigurationError | NotConnected | ConnectionLost] = NotConnected if opening else ConnectionLost
    if not isinstance(error, exceptions.ChannelClosed | exceptions.ConnectionClosed):
        cause = reason or error
        return _caused(kind(f"{where}: {_shown(cause)}"), cause)
    refused = opening and error.reply_code == PRECONDITION_FAILED  # what is declared then differs from what there is
    if refused or is_mistake(error.reply_code, str(error.reply_text)):
        kind = ConfigurationError
    return _caused(kind(f"{where}: {error.reply_code} {_shown(error.reply_text)}"), error)


def _caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def _shown(what: object) -> str:
    """The text of an error or of the broker, on one line and not for ever."""
    text = str(what) or type(what).__name__
    shown = "".join(char if char.isprintable() else " " for char in text)
    return shown if len(shown) <= _MAX_TEXT else shown[:_MAX_TEXT] + "..."
