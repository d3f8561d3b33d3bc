"""Files that people write and edit: read strictly, and every mistake explained with its place and a suggestion."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from unet_med.errors import UnetMedError


class Strict(BaseModel):
    """A frozen record in which unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=False)


Record = TypeVar("Record", bound=Strict)


def read_yaml(path: Path, kind: type[Record], error: type[UnetMedError]) -> Record:
    """Reads a YAML file into a strict record.

    Raises:
        error: missing or unreadable file, YAML that does not parse, unknown keys (the nearest known key is named),
            wrong values. All problems of a file come in one message.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error("There is no such file.", where=path) from None
    except (OSError, UnicodeDecodeError) as problem:
        raise error(f"The file cannot be read ({problem.__class__.__name__}).", where=path) from problem
    except yaml.YAMLError as problem:
        raise error(f"This is not valid YAML: {' '.join(str(problem).split())}.", where=path) from problem
    if not isinstance(raw, dict):
        raise error(f"Expected keys and values, found {type(raw).__name__}.", where=path)
    return parse(raw, kind, error, where=path)


def parse(
    raw: dict[str, Any], kind: type[Record], error: type[UnetMedError], where: Path | str | None = None
) -> Record:
    """The same for a dictionary that is already in memory."""
    try:
        return kind.model_validate(raw)
    except ValidationError as problem:
        sentences = [_sentence(detail, kind) for detail in problem.errors()]
        raise error("; ".join(sentences) + ".", where=where, advice="Correct the file and run again.") from problem


def to_yaml(record: Strict) -> str:
    """YAML text with the fields in their declared order; short lists stay on one line.

    A null is written only where the field has no default: `spacing: null` says something, an absent one is a mistake.
    """
    return yaml.dump(
        _without_default_nulls(record, record.model_dump(mode="json")),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=110,
    )


def _without_default_nulls(value: Any, dumped: Any) -> Any:
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        kept = {name: inner for name, inner in dumped.items() if inner is not None or fields[name].is_required()}
        return {name: _without_default_nulls(getattr(value, name), inner) for name, inner in kept.items()}
    if isinstance(value, list | tuple):
        return [_without_default_nulls(*pair) for pair in zip(value, dumped, strict=True)]
    return dumped


class _Dumper(yaml.SafeDumper):
    pass


def _short_list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.Node:
    plain = all(not isinstance(value, (dict, list)) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=plain)


_Dumper.add_representer(list, _short_list)


def _sentence(detail: Any, kind: type[Strict]) -> str:
    place = ".".join(str(part) for part in detail["loc"]) or "the file"
    if detail["type"] == "extra_forbidden":
        known = _fields_at(kind, detail["loc"][:-1])
        near = get_close_matches(str(detail["loc"][-1]), known, n=1, cutoff=0.4)
        hint = f'did you mean "{near[0]}"?' if near else f"known keys are {', '.join(known)}"
        return f'"{place}" is not a known key; {hint}'
    if detail["type"] == "missing":
        return f'"{place}" is missing'
    return f'"{place}": {detail["msg"]} (found {detail["input"]!r})'


def _fields_at(kind: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """The known keys of the record that lies at a path of keys and list positions."""
    current: Any = kind
    for part in path:
        if isinstance(part, int):
            continue
        field = current.model_fields.get(part)
        if field is None:
            return []
        inner = _record_type(field.annotation)
        if inner is None:
            return []
        current = inner
    return list(current.model_fields)


def _record_type(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _record_type(argument)
        if found is not None:
            return found
    return None
