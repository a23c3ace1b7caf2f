"""Numbers in sentences."""


def counted(count: int, one: str, many: str) -> str:
    """`one` may be more than a noun, such as "entry is"."""
    return f"{count} {one if count == 1 else many}"
