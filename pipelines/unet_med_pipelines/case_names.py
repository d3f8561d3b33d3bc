"""What a case is called: after its path, legal on every file system, and without the patient's name or id."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

LONGEST = 150
"""Bytes of a name. File systems allow 255, of which suffixes and temporary names take a part."""
SHORTEST_IDENTITY = 3
"""Characters. What is shorter is in too many words to tell anything."""
ILLEGAL = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]+')
"""What Windows does not allow in a name."""
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices, with any suffix."""


def named(place: Path, root: Path, identity: Iterable[str] = (), series: tuple[int | None, str] | None = None) -> str:
    """The name of a case.

    Args:
        place: the suffix-free path of a file, or the folder of a series.
        root: the folder that the name is relative to.
        identity: patient names and ids found in the files. A part of the path that holds one becomes a short hash.
        series: number and UID of a DICOM series; they end the name, the UID as a short hash.
    """
    relative = place.relative_to(root) if place.is_relative_to(root) else Path(place.name)
    parts = relative.parts or (place.resolve().name,)
    words = [short_hash(part) if holds(part, identity) else safe(part) for part in parts]
    name = "__".join(word for word in words if word)
    if series:
        number, uid = series
        name = "_".join(part for part in (name, "" if number is None else f"s{number}", short_hash(uid)) if part)
    return _legal(name)


def hidden_parts(paths: Iterable[Path], identity: Collection[str]) -> dict[str, str]:
    """What of some paths must not be shown -> what stands in its place."""
    if not identity:
        return {}
    values = {value for value in identity if len(_letters(value)) >= SHORTEST_IDENTITY}
    parts = {part for path in paths for part in path.parts}
    return {text: short_hash(text) for text in values | {part for part in parts if holds(part, identity)}}


def unique(names: Sequence[str], keys: Sequence[str]) -> list[str]:
    """The names, with a short hash of its key behind each that is not the only one of its spelling.

    Upper and lower case are one: on most desktops they name the same file. No two keys are equal.
    """
    taken = Counter(_folded(name) for name in names)
    found = [
        name if taken[_folded(name)] == 1 else _legal(f"{name}_{short_hash(key)}")
        for name, key in zip(names, keys, strict=True)
    ]
    return found if len({_folded(name) for name in found}) == len(found) else unique(found, keys)


def holds(part: str, identity: Iterable[str]) -> bool:
    """Whether a part of a path holds a patient's name or id, whatever the case, the order and the separators.

    Of a DICOM name (FAMILY^GIVEN) any one component is enough, if the part has it as a word.
    """
    text, words = _letters(part), set(_words(part))
    for value in identity:
        whole = _letters(value)
        if len(whole) < SHORTEST_IDENTITY:
            continue
        components = {_letters(component) for component in value.split("^")} if "^" in value else set()
        known = {component for component in components if len(component) >= SHORTEST_IDENTITY}
        if whole in text or known & words or set(_words(value)) <= words:
            return True
    return False


def short_hash(text: str) -> str:
    """Eight hexadecimal digits, always the same for the same text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def safe(part: str) -> str:
    """A part of a path without the characters that some file system refuses; other words are the user's own."""
    text = unicodedata.normalize("NFC", part.encode("utf-8", "replace").decode())
    return ILLEGAL.sub("_", text).strip(" .")


def _legal(name: str) -> str:
    """A name that can be a file's: not empty, not reserved, not too long."""
    name = name or "scan"
    if RESERVED.fullmatch(name):
        name = f"_{name}"
    if len(name.encode()) > LONGEST:
        ending = f"_{short_hash(name)}"
        name = name.encode()[: LONGEST - len(ending)].decode("utf-8", "ignore") + ending
    return name


def _letters(text: str) -> str:
    return "".join(_words(text))


def _words(text: str) -> list[str]:
    """Letters and digits between separators, without case and accents."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return re.findall(r"[^\W_]+", "".join(sign for sign in plain if not unicodedata.combining(sign)))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())
