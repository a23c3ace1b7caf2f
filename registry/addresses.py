"""How addresses are written in settings: listening ones, public ones, networks. All raise ValueError."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import urlsplit

Network = IPv4Network | IPv6Network

_LISTEN = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:/\s]+)):(?P<port>\d{1,5})")
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def split_listen(text: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[ipv6]:port`. Port 0 asks the system for a free one."""
    found = _LISTEN.fullmatch(text)
    if found is None or int(found["port"]) > 65535:
        raise ValueError("must be host:port, such as 127.0.0.1:8080 or [::1]:8080")
    return found["ipv6"] or found["name"], int(found["port"])


def check_listen(text: str) -> str:
    split_listen(text)
    return text


def check_listen_or_off(text: str) -> str:
    return "off" if text.lower() == "off" else check_listen(text)


def reachable(listen: str) -> str:
    """A listening address as a client on this machine would write it: 0.0.0.0 is not a place to go to."""
    host, port = split_listen(listen)
    host = _ANY.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_public_url(text: str) -> str:
    """The URL without a slash at its end. Clients look for /v2/ at the root, so it may have no path."""
    if not _is_origin(text):
        raise ValueError("must be https://host or https://host:port, without a path or a user's name")
    return text.rstrip("/")


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        return False
    extras = (parts.path.strip("/"), parts.query, parts.fragment, "@" in parts.netloc)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port_is_valid and not any(extras)


def read_networks(value: object) -> object:
    """Networks from a list with commas between; an address alone is a network of one. Other values pass."""
    if not isinstance(value, str):
        return value
    try:
        return tuple(ip_network(each.strip()) for each in value.split(",") if each.strip())
    except ValueError:
        raise ValueError("must be addresses or networks with commas between, such as 10.0.0.0/8, ::1") from None
