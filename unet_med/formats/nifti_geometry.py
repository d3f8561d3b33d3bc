"""Where a NIfTI header says that the voxels lie, and what of that a writer gives back.

The three methods of nifti1.h: 3. the sform, if its code is above 0; 2. the qform, if its code is; 1. voxel sizes alone.
Header fields come and go as plain numbers; no file is touched here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unet_med.errors import ScanRefused
from unet_med.formats.remarks import TOLERANCE
from unet_med.grid import Floats, Grid, Triple
from unet_med.scan import Finding, Severity

QFORM_FIELDS = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
"""Order of the numbers in `Placement.quaternion`."""

_MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}
_UNIT_NAMES = {1: "metres", 3: "micrometres"}
_HALF_TURN = 1e-7
"""b, c, d of this much less than length 1 (squared) are a half turn: so nifti1_io.c. Rounding to float32 makes as much,
and a = sqrt(1e-7) would turn the scan by 0.04 degrees."""
_TOO_LONG = 1e-4
"""By how much the squared length of (b, c, d) may exceed 1."""


@dataclass(frozen=True)
class Placement:
    """The geometry fields of a header, in mm: what `Source.header` keeps, so that a mask can be given the same.

    Args:
        sform_code, qform_code: as in the header.
        affine: what they come to, 4x4.
        pixdim: qfac and the three voxel sizes.
        quaternion: b, c, d and the three offsets.
    """

    sform_code: int
    qform_code: int
    affine: Floats
    pixdim: tuple[float, ...]
    quaternion: tuple[float, ...]


@np.errstate(all="ignore")  # a damaged header may hold any bits; what comes of them is looked at
def read_placement(header: Any, shape: Triple, path: Path) -> tuple[Placement, list[Finding]]:
    """The placement that a header states, and what there is to say about it.

    Args:
        header: anything that gives fields by their names in nifti1.h.

    Raises:
        ScanRefused: `invalid_geometry` if what counts is zero, not finite, singular or no rotation;
            `sform_qform_disagree` if sform and qform are mirror images: left and right are in doubt.
    """
    scale, findings = _unit(int(header["xyzt_units"]))
    pixdim = np.array(header["pixdim"], np.float64)[:4]
    quaternion, offsets = np.array([header[name] for name in QFORM_FIELDS], np.float64).reshape(2, 3)
    sizes = np.abs(pixdim[1:]) * scale
    qfac = -1.0 if pixdim[0] == -1 else 1.0  # by the standard 0 counts as 1
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    sform = np.array([*(header[f"srow_{axis}"] for axis in "xyz"), (0, 0, 0, 1)], np.float64)
    sform[:3] *= scale
    qform = _qform(quaternion, offsets * scale, sizes, qfac)

    if sform_code > 0:
        affine = _checked(sform, shape, "sform", path)
        findings += _compared(affine, qform if qform_code > 0 else None, sizes, shape, path, qform_code > 0)
    elif qform_code > 0:
        if qform is None:
            raise _invalid("The qform's quaternion is longer than 1 or not finite, and there is no sform", path)
        affine = _checked(qform, shape, "qform", path)
        findings.append(Finding("qform_only", Severity.NOTE, "The header has no sform.", "Placed by the qform."))
    else:
        affine = _checked(np.diag((*sizes, 1.0)), shape, "list of voxel sizes", path)
        findings.append(
            Finding(
                "no_orientation",
                Severity.NOTE,
                "The header does not say how the voxels lie in the patient (sform and qform codes are 0).",
                "First axis taken to run to the right, second to the front, third to the head, from the first voxel: "
                "left and right are a guess.",
            )
        )
    kept = Placement(sform_code, qform_code, affine, (qfac, *sizes), (*quaternion, *(offsets * scale)))
    return kept, findings


def fits(placement: Placement, grid: Grid) -> bool:
    """Whether the placement is that of the grid: voxels no more than 0.01 mm apart."""
    return Grid(grid.shape, placement.affine).is_close(grid, TOLERANCE)


def qform_fits(placement: Placement, grid: Grid) -> bool:
    """Whether the header's own qform says the same as the grid, to 0.01 mm."""
    quaternion, offsets = np.array(placement.quaternion[:3]), np.array(placement.quaternion[3:])
    qform = _qform(quaternion, offsets, np.array(placement.pixdim[1:]), placement.pixdim[0])
    try:
        return placement.qform_code > 0 and qform is not None and Grid(grid.shape, qform).is_close(grid, TOLERANCE)
    except ValueError:
        return False


def _unit(code: int) -> tuple[float, list[Finding]]:
    """How many mm a unit of length is, from the lowest three bits of xyzt_units (the others are of time)."""
    code &= 0x07
    if code not in _MM_PER_UNIT:
        note = Finding("units_unknown", Severity.NOTE, "The header names no unit of length.", "Taken as mm.")
        return 1.0, [note]
    if code in _UNIT_NAMES:
        message = f"Lengths are given in {_UNIT_NAMES[code]}."
        return _MM_PER_UNIT[code], [Finding("units_converted", Severity.REPAIRED, message, "Converted to mm.")]
    return 1.0, []


def _qform(quaternion: Floats, offsets: Floats, sizes: Floats, qfac: float) -> Floats | None:
    """nifti1.h, "method 2": a rotation as a unit quaternion (a, b, c, d), voxel sizes, offset. None if it is none."""
    rest = 1 - float(quaternion @ quaternion)
    if not np.isfinite(rest) or rest < -_TOO_LONG:
        return None
    a, (b, c, d) = 0.0, quaternion
    if rest < _HALF_TURN:
        b, c, d = quaternion / np.linalg.norm(quaternion)
    else:
        a = float(np.sqrt(rest))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    affine = np.eye(4)
    affine[:3, :3] = rotation * sizes * (1, 1, qfac)
    affine[:3, 3] = offsets
    return affine


def _checked(affine: Floats, shape: Triple, name: str, path: Path) -> Floats:
    try:
        Grid(shape, affine)
    except ValueError as error:
        numbers = "; ".join(" ".join(f"{value:.4g}" for value in row) for row in affine[:3])
        raise _invalid(f"The {name} is not finite, or gives no volume to a voxel ({numbers})", path) from error
    return affine


def _compared(
    affine: Floats, qform: Floats | None, sizes: Floats, shape: Triple, path: Path, has_qform: bool
) -> list[Finding]:
    """What the header says a second time, against the sform that is used."""
    grid = Grid(shape, affine)
    if has_qform:
        try:
            other = None if qform is None else Grid(shape, qform)
        except ValueError:
            other = None
        if other is None:
            message = "The qform is no rotation, or not finite."
            return [Finding("sform_qform_disagree", Severity.NOTE, message, "The sform is used.")]
        if np.linalg.det(affine[:3, :3]) * np.linalg.det(other.affine[:3, :3]) < 0:
            raise ScanRefused(
                "Sform and qform of the header are mirror images of each other: left and right are in doubt.",
                where=path,
                advice="Find out which is right, and set the code of the other to 0.",
                code="sform_qform_disagree",
            )
        apart = grid.distance(other)
        if apart > TOLERANCE:
            message = f"Sform and qform place voxels up to {apart:.3g} mm apart."
            return [Finding("sform_qform_disagree", Severity.NOTE, message, "The sform is used.")]
        return []
    if np.abs((sizes - grid.spacing) * shape).max() > TOLERANCE:
        stated, used = (" x ".join(f"{size:.4g}" for size in many) for many in (sizes, grid.spacing))
        message = f"The list of voxel sizes says {stated} mm, the sform {used} mm."
        return [Finding("spacing_tag_disagrees", Severity.NOTE, message, "The sform is used.")]
    return []


def _invalid(what: str, path: Path) -> ScanRefused:
    return ScanRefused(
        f"{what}: where the voxels lie cannot be told.",
        where=path,
        advice="Convert the scan anew from its source.",
        code="invalid_geometry",
    )
