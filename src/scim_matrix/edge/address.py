"""Whose request it is: addresses, through proxies that are trusted (pure)."""

from collections.abc import Iterable, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# What a provider gives to one customer at least; whoever has it has all addresses in it.
_ONE_CUSTOMER = 64


def parse(text: str) -> Address | None:
    """Return an IP address, also of `ip:port`, `[v6]` and `[v6]:port`; None for anything else."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def asking(
    remote: str | None, forwarded: Iterable[str], trusted: Sequence[Network]
) -> Address | None:
    """Return who is asking: the last address that no trusted proxy has.

    `forwarded` are the lines of X-Forwarded-For, read from the right. What is no address ends the
    way back: the proxy that wrote it is then who asks. None where `remote` is no address either.
    """
    found = parse(remote or "")
    chain = [entry for line in forwarded for entry in line.split(",") if entry.strip()]
    while chain and found is not None and any(found in network for network in trusted):
        before = parse(chain.pop())
        if before is None:
            break
        found = before
    return found


def counted_as(address: Address | None) -> str:
    """Return the name under which an address is counted: an IPv6 one by its /64."""
    if isinstance(address, IPv6Address):
        return str(ip_network((address, _ONE_CUSTOMER), strict=False))
    return str(address or "unknown")
