"""The record of a case: what was read, done and found. It is written last; without it a case is not done."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from unet_med.formats.atomic import replacing
from unet_med.measure import Measurement
from unet_med.provenance import Provenance
from unet_med.scan import Finding, Scan, Source
from unet_med_pipelines.evaluation.pairing import suffix_free

RECORDS = "records"
"""The folder of records in OUT."""
MEASUREMENTS = "measurements.csv"
HEADERS = (".hdr", ".nhdr", ".mhd")
COLUMNS = ("case", "label", "value", "voxels", "volume_ml")


@dataclass(frozen=True)
class Failure:
    """Why a case failed: the kind of error, what was wrong, and what to do about it."""

    kind: str
    reason: str
    advice: str | None = None

    def __str__(self) -> str:
        return " ".join(part for part in (self.reason, self.advice) if part)


@dataclass(frozen=True)
class Record:
    """One case of a batch.

    Args:
        inputs: of each file or series: path, format, and what identifies its content.
        scan: shape, spacing, orientation, units and modality; None where nothing could be read.
        outputs: path below OUT, format and sha256 of each file written.
        options: as they were resolved; as they were asked for where the case failed.
        seconds: wall time of each step.
        failure: None where the case is done.
    """

    case: str
    inputs: tuple[Mapping[str, Any], ...]
    options: Mapping[str, Any]
    scan: Mapping[str, Any] | None = None
    findings: tuple[Finding, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    outputs: tuple[Mapping[str, Any], ...] = ()
    provenance: Provenance | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    failure: Failure | None = None

    @property
    def status(self) -> Literal["done", "failed"]:
        return "failed" if self.failure else "done"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types. Holds no patient's name or id as long as its parts do not."""
        how = self.provenance
        return {
            "format": 1,
            "case": self.case,
            "status": self.status,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "failure": asdict(self.failure) if self.failure else None,
            "inputs": [dict(each) for each in self.inputs],
            "scan": dict(self.scan) if self.scan else None,
            "findings": [finding.as_dict() for finding in self.findings],
            "options": dict(self.options),
            "model": {"name": how.model, "weights_sha256": list(how.weights)} if how else None,
            "windows": how.windows if how else None,
            "versions": dict(how.versions) if how else None,
            "seconds": dict(self.seconds),
            "measurements": [
                {
                    "label": each.label.name,
                    "value": each.label.value,
                    "voxels": each.voxels,
                    "volume_ml": each.volume_ml,
                }
                for each in self.measurements
            ],
            "outputs": [dict(each) for each in self.outputs],
        }


def record_path(out: Path, case: str) -> Path:
    return out / RECORDS / f"{case}.json"


def write_record(out: Path, record: Record) -> None:
    """Raises WriteFailed."""
    text = json.dumps(record.as_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(record_path(out, record.case)) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_records(out: Path) -> list[dict[str, Any]]:
    """All records below OUT, by case. What is no record (cut short by a power cut, another's file) counts as none."""
    found = []
    for path in sorted((out / RECORDS).glob("*.json")):
        try:
            record = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(record, dict) and record.get("case") == path.stem and "measurements" in record:
            found.append(record)
    return found


def write_measurements(out: Path) -> Path:
    """The table of all cases that have a record, a row for each case and label. Raises WriteFailed.

    The volume is in ml, and empty where the size of a pixel is not known.
    """
    path = out / MEASUREMENTS
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for record in read_records(out):
            for row in record["measurements"]:
                volume = "" if row["volume_ml"] is None else f"{row['volume_ml']:.9g}"
                writer.writerow([record["case"], row["label"], row["value"], row["voxels"], volume])
    return path


def describe_scan(scan: Scan) -> dict[str, Any]:
    """What a reader of the record wants to know of a scan."""
    return {
        "shape": list(scan.grid.shape),
        "spacing": [float(f"{step:.9g}") for step in scan.grid.spacing],
        "space_units": scan.space_units,
        "orientation": scan.grid.orientation,
        "channels": list(scan.channels),
        "values": str(scan.data.dtype),
        "units": scan.units,
        "modality": scan.modality or "not declared",
    }


def describe_input(source: Source, path: str) -> dict[str, Any]:
    """What identifies a file or series.

    Args:
        path: as it may be shown.

    Returns:
        sha256 is that of the files one after the other, in the order of their names; None where they cannot be read.
    """
    files = _files(source)
    described: dict[str, Any] = {"path": path, "kind": source.kind, "files": len(files)}
    if source.series_uid:
        described["series_uid"] = source.series_uid
    described["sha256"] = sha256(files)
    return described


def sha256(paths: Iterable[Path]) -> str | None:
    """Of the contents of files, one after the other."""
    digest = hashlib.sha256()
    try:
        for path in paths:
            with path.open("rb") as file:
                while block := file.read(2**20):
                    digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()


def _files(source: Source) -> list[Path]:
    """The files of a source; of a header the voxels beside it, too, which have the same name up to the suffix."""
    first = source.paths[0]
    if len(source.paths) > 1 or first.suffix.lower() not in HEADERS:
        return sorted(source.paths)
    try:
        return sorted(path for path in first.parent.iterdir() if suffix_free(path.name) == first.stem)
    except OSError:
        return [first]
