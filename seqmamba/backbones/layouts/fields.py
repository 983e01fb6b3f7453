"""Typed values out of a foreign config.json."""

from __future__ import annotations

from typing import Any

from seqmamba.errors import UserError
from seqmamba.nn.options import is_number, is_whole

_REQUIRED = object()


class Fields:
    """The keys of a config.json, with messages that name the file and the key.

    Args:
        content: Values by key.
        where: The file, and the key if ``content`` is nested, for messages.
    """

    def __init__(self, content: dict[str, Any], where: str) -> None:
        self.content = content
        self.where = where
        self._read: set[str] = set()

    def refuse(self, key: str, expected: str, got: Any) -> UserError:
        """Return the error for a value that cannot be used."""
        return UserError(f"{self.where}: {key}: expected {expected}, got {got!r}")

    def get(self, key: str, default: Any = _REQUIRED) -> Any:
        """Return a value of any type.

        Raises:
            UserError: If the key is absent and there is no default.
        """
        self._read.add(key)
        value = self.content.get(key, default)
        if value is _REQUIRED:
            raise UserError(f"{self.where}: missing key {key}")
        return value

    def whole(self, key: str, default: Any = _REQUIRED, at_least: int = 1) -> int:
        """Return a whole number.

        Raises:
            UserError: If it is absent, of another type or too small.
        """
        value = self.get(key, default)
        if not is_whole(value, at_least):
            raise self.refuse(key, f"a whole number >= {at_least}", value)
        return int(value)

    def positive(self, key: str, default: Any = _REQUIRED) -> float:
        """Return a positive number.

        Raises:
            UserError: If it is absent, of another type or not positive.
        """
        value = self.get(key, default)
        if not (is_number(value) and value > 0):
            raise self.refuse(key, "a number > 0", value)
        return float(value)

    def flag(self, key: str, default: Any = _REQUIRED) -> bool:
        """Return true or false.

        Raises:
            UserError: If it is absent or of another type.
        """
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise self.refuse(key, "true or false", value)
        return value

    def nested(self, key: str) -> Fields:
        """Return the fields of an object; one that is absent or null is empty.

        Raises:
            UserError: If it is not an object.
        """
        value = self.get(key, None)
        if value is not None and not isinstance(value, dict):
            raise self.refuse(key, "an object", value)
        return Fields(value or {}, f"{self.where}: {key}")

    def only(self, key: str, *supported: Any) -> None:
        """Refuse every value of a key but those that mean what this library computes; absent is fine.

        Raises:
            UserError: If it has another value.
        """
        value = self.get(key, supported[0])
        if value not in supported:
            expected = " or ".join(map(repr, supported))
            raise self.refuse(key, f"{expected}, since nothing else is supported", value)

    def refuse_others(self, ignored: tuple[str, ...]) -> None:
        """Refuse keys that were not read until now.

        Args:
            ignored: Keys without effect here.

        Raises:
            UserError: If there is any other.
        """
        if unknown := sorted(self.content.keys() - self._read - set(ignored)):
            raise UserError(f"{self.where}: unknown key {', '.join(unknown)}")
