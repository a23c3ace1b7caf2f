"""The few column shapes that all tables share."""

from typing import Any

from sqlalchemy import BigInteger, DateTime, Text
from sqlmodel import Field


def moment(*, nullable: bool = False, **more: Any) -> Any:
    """An instant; always aware, always UTC when read back."""
    return Field(default=None if nullable else ..., sa_type=DateTime(timezone=True), nullable=nullable, **more)


def text(*, nullable: bool = False, default: Any = ..., **more: Any) -> Any:
    return Field(default=None if nullable else default, sa_type=Text, nullable=nullable, **more)


def whole_number(**more: Any) -> Any:
    """Bytes, or a count that may outgrow 32 bits."""
    return Field(sa_type=BigInteger, nullable=False, **more)
