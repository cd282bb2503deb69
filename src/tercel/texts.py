"""Texts as they can be stored and sent. Pure."""


def whole(text: str) -> str:
    r"""*text*, with halves of characters put together where they belong together, and else replaced.

    It is *text* itself where there are none. JSON, escapes and file names can bring in halves (lone surrogates), for
    which UTF-8 has no form.

    Example:
        >>> whole("\ud83d\ude00, \udce9")
        '😀, �'
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
