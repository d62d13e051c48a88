"""What the text of every target's kernel speaks of: slots of its argument block, and primitives that it
defines.
"""

from __future__ import annotations

from typing import Any


class Text:
    """``slots``: what stands in the argument block, ``words`` long; ``defined``: the makers of primitives by
    name.
    """

    def __init__(self) -> None:
        self.slots: list[tuple[Any, ...]] = []
        self.words = 0
        self.defined: dict[str, str] = {}
        self.names: dict[Any, str] = {}

    def slot(self, descriptor: tuple[Any, ...], words: int) -> int:
        """Where the next slot stands in the block."""
        self.slots.append(descriptor)
        self.words += words
        return self.words - words

    def define(self, name: str, text: str) -> str:
        self.defined[name] = text
        return name

    def made(self, stem: str, text: str) -> str:
        """A primitive that is made once, by a name with a number."""
        key = "made", text
        if key not in self.names:
            self.names[key] = self.define(f"{stem}_{len(self.names)}", text)
        return self.names[key]

    def called(self, name: str, text: str, of: str) -> str:
        """The primitive made by a text, of a value."""
        return f"{self.define(name, text)}({of})"
