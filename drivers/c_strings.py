"""Texts in C files that the build writes."""


def literal(text):
    """A text of whole lines as a string literal, one of each line, and how many bytes it has."""
    lines = text.splitlines()
    escaped = (line.replace("\\", "\\\\").replace('"', '\\"').replace("?", "\\?") for line in lines)  # no trigraphs
    return "\n".join(f'     "{line}\\n"' for line in escaped), sum(len(line.encode()) + 1 for line in lines)
