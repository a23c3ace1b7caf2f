"""What sentences are made of: numbers, and what others wrote."""


def counted(count: int, one: str, many: str) -> str:
    """`one` may be more than a noun, such as "entry is"."""
    return f"{count} {one if count == 1 else many}"


def one_line(text: str) -> str:
    """Of what strangers wrote, such as a name or the answer of a server: on a terminal it must move no cursor and make
    no line of its own."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
