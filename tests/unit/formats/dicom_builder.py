"""DICOM series for tests, written tag by tag with pydicom: what a scanner would write, or would do wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset

from unet_med import Scan
from unet_med.formats import dicom_series
from unet_med.formats.dicom_find import find_series

MR, CT, PET = (f"1.2.840.10008.5.1.4.1.1.{n}" for n in ("4", "2", "128"))
EXPLICIT = "1.2.840.10008.1.2.1"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
ROWS, COLUMNS = 4, 6
SPACING = (0.8, 0.5)  # between rows, between columns
ORIGIN = (-20.0, 30.0, 100.0)


def picture(k: int) -> np.ndarray:
    """Rows x columns in which every pixel of every slice has a value of its own."""
    return (1000 * k + 10 * np.arange(ROWS)[:, np.newaxis] + np.arange(COLUMNS)).astype(np.int16)


def header(k: int, position: Sequence[float], orientation: Sequence[float] = AXIAL) -> Dataset:
    """Slice k of a plain MR series."""
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = EXPLICIT
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = MR
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = f"1.2.3.{k + 1}"
    one.Modality = "MR"
    one.PatientName, one.PatientID = "Secret^Name", "SECRET-ID"
    one.SeriesInstanceUID, one.StudyInstanceUID, one.FrameOfReferenceUID = "1.2.4", "1.2.5", "1.2.6"
    one.SeriesNumber, one.InstanceNumber = 3, k + 1
    one.SeriesDescription = "t1 of a test"
    one.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    one.ImagePositionPatient = [f"{value:.10g}" for value in position]
    one.ImageOrientationPatient = [f"{value:.10g}" for value in orientation]
    one.PixelSpacing = list(SPACING)
    one.SliceThickness = 3
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    set_pixels(one, picture(k))
    return one


def set_pixels(one: Dataset, pixels: np.ndarray, bits: int | None = None) -> None:
    one.Rows, one.Columns = pixels.shape[:2]
    one.BitsAllocated = 8 * pixels.itemsize
    one.BitsStored = bits or one.BitsAllocated
    one.HighBit = one.BitsStored - 1
    one.PixelRepresentation = int(pixels.dtype.kind == "i")
    one.PixelData = pixels.tobytes()
    one["PixelData"].VR = "OW" if pixels.itemsize > 1 else "OB"


def positions(count: int = 5, step: Sequence[float] = (0, 0, 3)) -> list[np.ndarray]:
    return [np.array(ORIGIN) + k * np.array(step) for k in range(count)]


def save(
    folder: Path,
    places: Sequence[Sequence[float]] | None = None,
    orientation: Sequence[float] = AXIAL,
    change: Callable[[Dataset, int], Any] = lambda one, k: None,
) -> Path:
    """Writes a series, a file a position, changed by `change`; the folder comes back."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, place in enumerate(positions() if places is None else places):
        one = header(k, place, orientation)
        change(one, k)
        pydicom.dcmwrite(folder / f"{k:03d}.dcm", one, enforce_file_format=True)
    return folder


def read(folder: Path) -> Scan:
    """The one series that lies in a folder."""
    sources, problems = find_series([path for path in folder.rglob("*") if path.is_file()])
    assert not problems
    (source,) = sources
    return dicom_series.read(source)


def codes(scan: Scan) -> list[str]:
    return [finding.code for finding in scan.findings]
