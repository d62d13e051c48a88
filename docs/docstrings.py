"""What Griffe is told about docstrings: after a parameter's colon stands what it is, and its type is in the signature."""

from __future__ import annotations

from typing import Any

import griffe

ITEMS = {
    griffe.DocstringSectionKind.parameters,
    griffe.DocstringSectionKind.attributes,
    griffe.DocstringSectionKind.returns,
    griffe.DocstringSectionKind.yields,
}


class Descriptions(griffe.Extension):
    """Prose that stands where NumPy's form has a type, which no Python type is, goes to the description."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        self._visit(pkg)

    def _visit(self, found: griffe.Object) -> None:
        for section in found.docstring.parsed if found.docstring else ():
            for item in section.value if section.kind in ITEMS else ():
                if isinstance(item.annotation, str):
                    item.description = f"{item.annotation} {item.description}".strip()
                    item.annotation = self._declared(found, item, section.kind)
        for member in found.members.values():
            if not member.is_alias:
                self._visit(member)

    def _declared(self, found: griffe.Object, item: Any, kind: griffe.DocstringSectionKind) -> Any:
        if kind in (griffe.DocstringSectionKind.returns, griffe.DocstringSectionKind.yields):
            return getattr(found, "returns", None)
        if kind is griffe.DocstringSectionKind.attributes:
            return getattr(found.members.get(item.name), "annotation", None)
        called = found.members.get("__init__") if found.is_class else found
        parameters = getattr(called, "parameters", ())
        return parameters[item.name].annotation if item.name in parameters else None
