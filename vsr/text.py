"""Words of strangers, such as file names and tags, for a terminal to show and not to obey."""


def printable(text: str) -> str:
    """The text with control characters, and bytes of a file name that are no text, shown escaped;
    lines stay lines."""
    shown = text.encode(errors="backslashreplace").decode()
    return "".join(
        each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in shown
    )
