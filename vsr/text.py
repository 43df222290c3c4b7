"""Escaping of foreign text, such as file names and tags, so that a terminal shows it and does not
obey it."""


def printable(text: str) -> str:
    """Escape control characters, and bytes of a file name that are no text; keep line breaks."""
    shown = text.encode(errors="backslashreplace").decode()
    return "".join(
        each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in shown
    )
