"""Sizes in bytes: as people write them (`500M`) to a number and back, and as they read them."""

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_size(text: str) -> int:
    """Read a size: a whole number of bytes, or of KiB, MiB, GiB or TiB by the letter after it.

    Raises:
        ValueError: it is none; the message completes "… is not".

    Example:
        >>> parse_size("500"), parse_size("2k"), parse_size("1 MiB")
        (500, 2048, 1048576)
    """
    number = text.strip().lower().removesuffix("b").removesuffix("i")
    unit = number[-1:] if number[-1:].isalpha() else ""
    digits = number.removesuffix(unit).strip()
    if not digits.isdecimal() or unit not in _UNITS:
        raise ValueError("a size such as 500M or 10G")
    return int(digits) * _UNITS[unit]


def parse_count(text: str) -> int:
    """Read a whole number above zero. Raises ValueError."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def format_size(size: int) -> str:
    """Write a size as `parse_size` reads it, in the largest unit that loses nothing.

    Example:
        >>> format_size(5 << 30), format_size(1500), format_size(0)
        ('5G', '1500', '0')
    """
    unit = max((unit for unit, bytes_ in _UNITS.items() if size % bytes_ == 0), key=_UNITS.__getitem__) if size else ""
    return f"{size // _UNITS[unit]}{unit.upper()}"


def size_text(size: int) -> str:
    """A size in the largest unit, by thousands, that keeps it above one.

    Example:
        >>> size_text(14), size_text(5000), size_text(1_234_567)
        ('14 B', '5.0 kB', '1.2 MB')
    """
    if size < 1000:
        return f"{size} B"
    units = iter(("kB", "MB", "GB", "TB"))
    value, unit = size / 1000, next(units)
    while value >= 1000 and unit != "TB":
        value, unit = value / 1000, next(units)
    return f"{value:.1f} {unit}"
