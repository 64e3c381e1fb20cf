import pickle
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.transport.urls import AmqpUrl, MemoryUrl, parse_url

SECRET = "s3cr3t"


def amqp(url: str, **options: Any) -> AmqpUrl:
    found = parse_url(url, **options)
    assert isinstance(found, AmqpUrl)
    return found


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("amqp://", [("localhost", 5672)]),
        ("amqp:///", [("localhost", 5672)]),
        ("amqp://localhost", [("localhost", 5672)]),
        ("amqp://127.0.0.1:5673", [("127.0.0.1", 5673)]),
        ("amqp://[::1]", [("::1", 5672)]),
        ("amqp://[::1]:5673/", [("::1", 5673)]),
        ("amqp://u:p@a,b:5673,[2001:db8::1]:1/", [("a", 5672), ("b", 5673), ("2001:db8::1", 1)]),
        ("amqps://u:p@a,b:1", [("a", 5671), ("b", 1)]),
    ],
)
def test_hosts(url: str, hosts: list[tuple[str, int]]) -> None:
    assert amqp(url).hosts == tuple(hosts)


@pytest.mark.parametrize(
    ("path", "vhost"),
    [("", "/"), ("/", "/"), ("//", "/"), ("/%2F", "/"), ("/%2f", "/"), ("/prod", "prod"), ("/a%2Fb%20c", "a/b c")],
)
def test_vhosts(path: str, vhost: str) -> None:
    assert amqp(f"amqp://u:p@h{path}").vhost == vhost


def test_user_and_password() -> None:
    url = amqp("amqp://us%40er:p%2F%3A%23%3F%40@h/")

    assert (url.user, url.password) == ("us@er", "p/:#?@")
    assert amqp("amqp://u:a:b@h").password == "a:b"


def test_guest_is_for_this_machine() -> None:
    assert (amqp("amqp://localhost").user, amqp("amqp://127.8.9.1,[::1]").password) == ("guest", "guest")
    assert amqp("amqp://guest:guest@far.example").user == "guest"
    for url in ("amqp://far.example", "amqp://@far.example", "amqp://localhost,far.example", "amqp://10.0.0.1"):
        with pytest.raises(ConfigurationError, match="user and a password"):
            amqp(url)


def test_options() -> None:
    url = amqp(
        "amqps://u:p@h/?heartbeat=5&connect_timeout=2.5&cafile=%2Fca.pem&certfile=c&keyfile=k&name=orders%20api&insecure=false"
    )

    assert (url.heartbeat, url.connect_timeout, url.name, url.insecure) == (5, 2.5, "orders api", False)
    assert (url.cafile, url.certfile, url.keyfile) == ("/ca.pem", "c", "k")
    assert amqp("amqps://u:p@h?insecure=true").insecure
    assert amqp("amqp://h?heartbeat=5", heartbeat=7, user="u", password="p").heartbeat == 7


def test_defaults() -> None:
    url = amqp("amqp://localhost")

    assert (url.heartbeat, url.connect_timeout, url.name, url.tls) == (10, 10.0, None, False)
    assert amqp("amqps://u:p@h").tls


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "begins with"),
        ("localhost", "begins with"),
        ("http://h", "begins with"),
        ("amqp://user@h", "user and a password"),
        ("amqp://:p@h", "user and a password"),
        ("amqp://u:@h", "user and a password"),
        ("amqp://u:p@h:0", "port"),
        ("amqp://u:p@h:65536", "port"),
        ("amqp://u:p@h:x", "port"),
        ("amqp://u:p@h:1:2", "IPv6"),
        ("amqp://u:p@[::1", "not IPv6"),
        ("amqp://u:p@[nonsense]", "not IPv6"),
        ("amqp://u:p@h/a/b", "vhost"),
        ("amqp://u:p@h/#x", "no #"),
        ("amqp://u:p@h?colour=blue", "'colour'; those that exist: heartbeat"),
        ("amqp://u:p@h?ssl_options=x", "ssl_options"),
        ("amqp://u:p@h?heartbeat=soon", "heartbeat.*'soon'"),
        ("amqp://u:p@h?heartbeat=", "heartbeat"),
        ("amqp://u:p@h?heartbeat=-1", "-1"),
        ("amqp://u:p@h?heartbeat=1&heartbeat=2", "twice"),
        ("amqp://u:p@h?connect_timeout=0", "connect_timeout"),
        ("amqp://u:p@h?connect_timeout=nan", "connect_timeout"),
        ("amqp://u:p@h?insecure=true", "amqps"),
        ("amqp://u:p@h?cafile=x", "amqps"),
        ("amqps://u:p@h?insecure=maybe", "maybe"),
        ("amqps://u:p@h?insecure=true&cafile=x", "exclude"),
        ("amqps://u:p@h?keyfile=x", "certfile"),
        ("memory://bus/x", "memory"),
        ("memory://bus?x=1", "memory"),
        ("memory://@bus", "without passwords"),
        ("memory://joe:secret@bus", "without passwords"),
        ("memory://joe@other@bus", "memory"),
    ],
)
def test_what_is_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse_url(url)


def test_an_option_that_does_not_exist() -> None:
    with pytest.raises(TypeError, match="colour"):
        parse_url("amqp://h", user="u", password="p", colour="blue")
    with pytest.raises(ConfigurationError, match="no host"):
        AmqpUrl(hosts=())


def test_memory() -> None:
    assert parse_url("memory://") == MemoryUrl("")
    assert parse_url("memory://a%2Fb") == MemoryUrl("a/b")
    assert str(parse_url("memory://a%2Fb")) == "memory://a%2Fb"
    assert parse_url("memory://j%40e@bus") == MemoryUrl("bus", "j@e")
    assert str(parse_url("memory://j%40e@bus")) == "memory://j%40e@bus"
    assert str(parse_url("memory://guest@bus")) == "memory://bus"
    with pytest.raises(ConfigurationError):
        parse_url("memory://bus", heartbeat=3)


@pytest.mark.parametrize("text", [repr, str, "{}".format, lambda url: url.redacted])
def test_the_password_is_never_shown(text: Any) -> None:
    url = amqp(f"amqps://us%2Fer:{SECRET}@a,[::1]:7/v%2Fh?name=x")

    assert SECRET not in text(url)
    assert url.redacted == "amqps://us%2Fer:***@a:5671,[::1]:7/v%2Fh"


@pytest.mark.parametrize("odd", "/?#@[]:,%&= é")
@pytest.mark.parametrize("place", ["{0}s3cr3t", "s3cr3t{0}", "s3{0}cr3t{0}", "12{0}s3cr3t"])
def test_a_password_that_was_not_encoded_is_not_shown_either(odd: str, place: str) -> None:
    for tail in ("@h", "@h/", "@h:1/v", "@h/?heartbeat=1"):
        assert "cr3t" not in said_of(f"amqp://u:{place.format(odd)}{tail}")


def said_of(url: str) -> str:
    """All that a log could get to see of it."""
    try:
        found = parse_url(url)
    except ConfigurationError as error:
        return f"{error} {error.__cause__} {None if error.__suppress_context__ else error.__context__}"
    return f"{found!r} {found}"


def test_a_certificate_takes_the_place_of_user_and_password() -> None:
    url = amqp("amqps://broker.example/shop?certfile=orders.pem&auth_mechanism=external")
    assert url.external
    assert url.redacted == "amqps://broker.example:5671/shop"
    assert not amqp("amqps://u:p@broker.example/?certfile=orders.pem").external


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("amqps://u:p@h/?certfile=a&auth_mechanism=external", "takes no user"),
        ("amqps://h/?auth_mechanism=external", "needs amqps:// and a certfile"),
        ("amqp://h/?auth_mechanism=external", "needs amqps:// and a certfile"),
        ("amqps://u:p@h/?auth_mechanism=amqplain", "give 'plain' or 'external'"),
        ("amqps://h/?auth_mechanism=EXTERNAL&certfile=a", "user and a password"),
    ],
)
def test_a_mechanism_that_cannot_be_is_refused(url: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        parse_url(url)


names = st.text(min_size=1, max_size=20)


@given(names, names, names)
def test_what_is_percent_encoded_comes_back(user: str, password: str, vhost: str) -> None:
    user, password, vhost = (text.encode("utf-8", "replace").decode() for text in (user, password, vhost))
    url = amqp(f"amqp://{quote(user, safe='')}:{quote(password, safe='')}@h/{quote(vhost, safe='')}")

    assert (url.user, url.password, url.vhost) == (user, password, vhost)
    again = amqp(url.redacted)
    assert (again.user, again.vhost, again.hosts) == (user, vhost, url.hosts)


@given(st.text(max_size=40))
def test_any_text_is_a_url_or_refused(text: str) -> None:
    for scheme in ("", "amqp://", "amqps://", "memory://"):
        try:
            parse_url(scheme + text)
        except ConfigurationError:
            continue


def test_urls_can_be_handed_to_another_process() -> None:
    url = amqp("amqp://u:p@h/")

    assert pickle.loads(pickle.dumps(url)) == url  # noqa: S301 - our own bytes
