"""Whom to believe about where a request came from. Pure.

Anyone may write X-Forwarded-For. It counts only if the socket's other end is a proxy that the operator
trusts, and then only so far back as trusted proxies wrote it: the first address from the right that is none
of theirs is the client's; what stands left of it, the client may have made up.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from registry.addresses import Network

MAX_HOPS = 16
"""More of them than a request can sensibly have passed; what lies farther back is not looked at."""


def forwarded_addresses(header: str) -> tuple[str, ...]:
    """The addresses in the header, the nearest last, up to the first from the right that is no address."""
    found: list[str] = []
    for text in reversed(header.split(",")[-MAX_HOPS:]):
        address = _address(text.strip())
        if address is None:
            break
        found.append(str(address))
    return tuple(reversed(found))


def believed_source(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """The client's address, as far as it can be known; where all are trusted proxies, the farthest."""
    source = peer
    for address in reversed(forwarded):
        if not is_trusted(source, trusted):
            break
        source = address
    return source


def is_trusted(text: str, trusted: Sequence[Network]) -> bool:
    address = _address(text) if trusted else None
    return address is not None and any(address in network for network in trusted)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Also reads the form in which a dual-stack socket shows an IPv4 peer, ::ffff:10.0.0.1."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
