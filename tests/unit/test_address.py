"""Whose request it is."""

from ipaddress import ip_network

import pytest

from scim_matrix.edge.address import asking, counted_as, parse


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        (" 192.0.2.7:4711", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ('"[2001:db8::1]:4711"', "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("unknown", None),
        ("", None),
        ("192.0.2.7:x:y", None),
    ],
)
def test_addresses_as_proxies_write_them(text: str, address: str | None) -> None:
    """With or without port and brackets; what is none is none."""
    found = parse(text)
    assert (None if found is None else str(found)) == address


@pytest.mark.parametrize(
    ("forwarded", "who"),
    [
        ([], "10.0.0.1"),
        (["192.0.2.7"], "192.0.2.7"),
        (["198.51.100.1, 192.0.2.7"], "192.0.2.7"),
        (["192.0.2.7, 10.0.0.2"], "192.0.2.7"),
        (["198.51.100.1", "192.0.2.7", "10.0.0.2"], "192.0.2.7"),
        (["10.0.0.3", "10.0.0.2"], "10.0.0.3"),
        (["192.0.2.7, hidden, 10.0.0.2"], "10.0.0.2"),
    ],
)
def test_forwarded_addresses_are_read_from_the_right(forwarded: list[str], who: str) -> None:
    """Back over trusted proxies to the first address that is none, and no further."""
    assert str(asking("10.0.0.1", forwarded, [ip_network("10.0.0.0/8")])) == who


def test_an_ipv6_customer_is_one() -> None:
    """Addresses of one /64 are counted together, of different ones apart."""
    counted = [counted_as(parse(f"2001:db8:0:{net}::{host}")) for net, host in ((1, 1), (1, 2))]
    assert counted[0] == counted[1] == "2001:db8:0:1::/64"
    assert counted_as(parse("2001:db8:0:2::1")) != counted[0]
    assert counted_as(parse("192.0.2.7")) == "192.0.2.7"
