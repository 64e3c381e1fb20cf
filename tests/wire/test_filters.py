from __future__ import annotations

from typing import Any

import pytest

from resilient_rpc.errors import ConfigurationError, FilterRefused, RpcError, TooLarge
from resilient_rpc.wire.filters import Filter, Filters, Message, check_filters


class Mark:
    """Puts its mark at the end of the body, and takes it off again."""

    def __init__(self, mark: bytes) -> None:
        self.mark = mark

    def outgoing(self, message: Message) -> Message:
        return message.replace(body=message.body + self.mark)

    def incoming(self, message: Message) -> Message:
        if not message.body.endswith(self.mark):
            raise ValueError("secret detail")
        return message.replace(body=message.body.removesuffix(self.mark))


class Answers:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def outgoing(self, message: Message) -> Message:
        if isinstance(self.answer, BaseException):
            raise self.answer
        found: Message = self.answer
        return found

    incoming = outgoing


MESSAGE = Message(direction="request", body=b"x", target="rpc.shop")


def test_outgoing_messages_pass_from_the_first_to_the_last_and_incoming_ones_back() -> None:
    filters = Filters([Mark(b"1"), Mark(b"2")])
    sent = filters.outgoing(MESSAGE)
    assert sent.body == b"x12"
    assert filters.incoming(sent).body == b"x"


def test_none_changes_nothing() -> None:
    assert Filters().outgoing(MESSAGE) is MESSAGE
    assert Filters().incoming(MESSAGE) is MESSAGE


def test_a_strange_exception_is_named_by_its_class_and_not_by_its_text() -> None:
    with pytest.raises(FilterRefused, match=r"^Mark: ValueError$") as refused:
        Filters([Mark(b"1")]).incoming(MESSAGE)
    assert refused.value.filter == "Mark"
    assert isinstance(refused.value.__cause__, ValueError)


def test_an_error_of_the_library_is_told_with_its_text() -> None:
    cause = TooLarge("over the limit")
    with pytest.raises(FilterRefused, match=r"^Answers: over the limit$") as refused:
        Filters([Answers(cause)]).outgoing(MESSAGE)
    assert refused.value.__cause__ is cause


@pytest.mark.parametrize("answer", [None, "text", MESSAGE.replace(body="text")])
def test_an_answer_that_is_no_message_is_refused(answer: Any) -> None:
    with pytest.raises(FilterRefused, match="TypeError"):
        Filters([Answers(answer)]).outgoing(MESSAGE)


def test_an_exit_is_not_swallowed() -> None:
    with pytest.raises(KeyboardInterrupt):
        Filters([Answers(KeyboardInterrupt())]).incoming(MESSAGE)


@pytest.mark.parametrize("wrong", [Mark, object(), None, "text"])
def test_what_is_no_filter_is_named_when_it_is_configured(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"filter|instance"):
        Filters([wrong])
    with pytest.raises(ConfigurationError, match=r"filter|instance"):
        check_filters([wrong])


@pytest.mark.parametrize("wrong", ["text", b"bytes", None, 5, Mark(b"1")])
def test_filters_are_given_as_a_list(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="give a list of filters"):
        check_filters(wrong)


def test_filters_are_kept_as_a_tuple() -> None:
    filters: list[Filter] = [Mark(b"1")]
    assert check_filters(filters) == tuple(filters)


def test_a_message_is_frozen() -> None:
    with pytest.raises(AttributeError):
        MESSAGE.body = b"y"  # type: ignore[misc]
    assert isinstance(FilterRefused("x"), RpcError)
