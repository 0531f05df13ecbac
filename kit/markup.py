"""HTML that is escaped by construction: text stays text, only `tag` makes markup."""

from __future__ import annotations

import html
import re
import unicodedata

VOID = {"img", "wbr"}


class Html(str):
    """Markup that is safe to put on a page as it is."""


def tag(name: str, *children: str, **attributes: object) -> Html:
    """Return an element; plain strings in it are escaped, `Html` is not.

    Attributes that are None are left out; `class_` and `data_x` stand for `class` and `data-x`.
    """
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(printable(str(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID and not children:
        return Html(f"<{name}{pairs}/>")
    return Html(f"<{name}{pairs}>{join(*children)}</{name}>")


def join(*parts: str) -> Html:
    """Return the parts one after the other, plain strings escaped."""
    return Html("".join(part if isinstance(part, Html) else html.escape(printable(part)) for part in parts))


def printable(text: str) -> str:
    """Return text with what a page must not hold shown as U+FFFD: controls, surrogates, bidi overrides."""
    wrong = {char for char in set(text) - {"\n"} if unicodedata.category(char) in {"Cc", "Cf", "Cs"}}
    return text.translate({ord(char): "\N{REPLACEMENT CHARACTER}" for char in wrong}) if wrong else text


def breakable(name: str) -> Html:
    """Return a long name that may be broken after its slashes, dots and underscores."""
    parts = re.split(r"(?<=[/._])", name)
    return join(*[part for piece in parts for part in (piece, tag("wbr"))][:-1])
