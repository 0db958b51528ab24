"""HTML that escapes by default: only what `tag` made is taken as markup."""

import html
from collections.abc import Iterable

_VOID = {"img", "rect", "path", "line", "meta"}


class Markup(str):
    """Text that is already HTML."""


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """`<name attributes>children</name>`; children and attribute values are escaped unless Markup.

    `class_` stands for class, other underscores for hyphens; an attribute of None is left out.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    end = "" if name in _VOID else f"{join(children)}</{name}>"
    close = "/" if name in _VOID else ""
    return Markup(f"<{name}{given}{close}>{end}")


def join(children: Iterable[object]) -> Markup:
    return Markup("".join(c if isinstance(c, Markup) else html.escape(str(c)) for c in children))
