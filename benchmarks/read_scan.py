"""Time and memory that reading a DICOM series takes, against what others take for the same series.

    python benchmarks/read_scan.py [FOLDER ...] [--slices 300] [--size 512] [--rounds 3]

Without a FOLDER, three series are made: plain, RLE, and JPEG 2000 lossless; 12 bits of a smooth body in noise. In a
round every reader reads the series once, each in a process of its own. What is told are ratios within a round, since
seconds mean little on another machine, or on this one an hour later. Libraries are loaded before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

PICTURES = 12
"""Different slices in a series that is made; each comes again, since compressing hundreds takes minutes."""

SYNTAXES = {"plain": None, "RLE": "1.2.840.10008.1.2.5", "JPEG 2000 lossless": "1.2.840.10008.1.2.4.90"}

Read = Callable[[], Any]


# -- readers: each loads its library, and gives a function that returns all voxels ----------------------------------


def unet_med(folder: Path) -> Read:
    from unet_med import read_scan

    return lambda: read_scan(folder).data


def simpleitk(folder: Path) -> Read:
    import SimpleITK

    held: list[Any] = []

    def read() -> Any:
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        image = reader.Execute()
        held.append(image)  # its voxels are gone with it, and a copy would count as memory that it does not need
        return SimpleITK.GetArrayViewFromImage(image)

    return read


def dicom2nifti(folder: Path) -> Read:
    import dicom2nifti.convert_dicom

    def read() -> Any:
        made = dicom2nifti.convert_dicom.dicom_series_to_nifti(str(folder), None, reorient_nifti=False)
        return np.asarray(made["NII"].dataobj)

    return read


def monai(folder: Path) -> Read:
    from monai.data import PydicomReader

    def read() -> Any:
        reader = PydicomReader()
        return reader.get_data(reader.read(str(folder)))[0]

    return read


READERS: dict[str, tuple[str, str, Callable[[Path], Read]]] = {
    "unet_med": ("unet-med", "unet_med", unet_med),
    "simpleitk": ("SimpleITK", "SimpleITK", simpleitk),
    "dicom2nifti": ("dicom2nifti", "dicom2nifti", dicom2nifti),
    "monai": ("MONAI PydicomReader", "monai", monai),
}
"""What a reader is called, which package it needs, and what reads."""


def measure(reader: str, folder: Path) -> None:
    """In a process of its own: reads once, and prints what that took."""
    read = READERS[reader][2](folder)
    before = memory("self", "VmRSS")
    began = time.perf_counter()
    voxels = read()
    seconds = time.perf_counter() - began
    # What it took on top of its libraries, and all that its helpers took. They live on, so their peaks can be read.
    peak = memory("self", "VmHWM") - before + sum(memory(child, "VmHWM") for child in children())
    print(json.dumps({"seconds": seconds, "peak": peak, "sum": float(voxels.sum(dtype=np.float64))}))


def memory(process: str, field: str) -> int:
    """Bytes, as Linux counts them."""
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


def children() -> list[str]:
    """Numbers of the processes that this one has started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if f"\nPPid:\t{os.getpid()}\n" in status.read_text(encoding="ascii", errors="replace"):
                found.append(status.parent.name)
        except OSError:  # it has ended meanwhile
            continue
    return found


# -- the series -----------------------------------------------------------------------------------------------------


def make_series(folder: Path, syntax: str | None, slices: int, size: int) -> None:
    """A CT of a cylinder with 12 bits and noise of 20 HU, a file a slice."""
    import pydicom

    noise = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : 1j * size, -1 : 1 : 1j * size]
    body = np.where(x**2 + y**2 < 0.7, 1064.0 + 200 * x * y, 24.0)
    base = pydicom.Dataset()
    base.file_meta = pydicom.dataset.FileMetaDataset()
    base.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    base.SOPClassUID, base.Modality = "1.2.840.10008.5.1.4.1.1.2", "CT"
    base.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    base.PatientName = base.PatientID = "benchmark"
    base.StudyInstanceUID, base.SeriesInstanceUID, base.FrameOfReferenceUID = "1.2.3.1", "1.2.3.2", "1.2.3.3"
    base.SeriesNumber, base.Manufacturer = 1, "none"
    base.ImageOrientationPatient, base.PixelSpacing, base.SliceThickness = [1, 0, 0, 0, 1, 0], [0.7, 0.7], 1
    base.Rows, base.Columns, base.SamplesPerPixel = size, size, 1
    base.PhotometricInterpretation, base.PixelRepresentation = "MONOCHROME2", 0
    base.BitsAllocated, base.BitsStored, base.HighBit = 16, 12, 11
    base.RescaleSlope, base.RescaleIntercept, base.RescaleType = 1, -1024, "HU"
    pictures = []
    for _ in range(min(PICTURES, slices)):
        one = pydicom.dcmread(_in_memory(base))
        one.PixelData = np.clip(body + noise.normal(0, 20, body.shape), 0, 4095).astype("<u2").tobytes()
        one["PixelData"].VR = "OW"
        if syntax:
            one.compress(syntax, generate_instance_uid=False)
        pictures.append(one)
    for k in range(slices):
        one = pictures[k % len(pictures)]
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{k + 1}"
        one.InstanceNumber, one.ImagePositionPatient = k + 1, [-180, -180, k]
        pydicom.dcmwrite(folder / f"{k:04d}.dcm", one, enforce_file_format=True)


def _in_memory(header: Any) -> Any:
    import io

    import pydicom

    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.0"
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, header, enforce_file_format=True)
    buffer.seek(0)
    return buffer


# -- the table ------------------------------------------------------------------------------------------------------


def compare(title: str, folder: Path, rounds: int) -> None:
    """Reads one series with every reader that is installed, and prints how they compare."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in READERS}
    faults: dict[str, str] = {}
    for _ in range(rounds):
        for name, (_, package, _) in READERS.items():
            if find_spec(package) is None:
                faults[name] = "not installed"
            elif name not in faults:
                try:
                    runs[name].append(run(name, folder))
                except RuntimeError as error:
                    faults[name] = str(error)
    ours = runs["unet_med"]
    if "unet_med" in faults:
        sys.exit(f"unet-med cannot read {folder}: {faults['unet_med']}")
    print(f"\n{title}: unet-med takes {median(one['seconds'] for one in ours):.2f} s (median of {rounds})")
    print(f"{'':21}{'time / ours':^27}  {'memory / ours':^27}")
    print(f"{'':21}{'min':>9}{'median':>9}{'max':>9}  {'min':>9}{'median':>9}{'max':>9}")
    for name, (words, _, _) in READERS.items():
        if name == "unet_med":
            continue
        if name in faults:
            print(f"{words:21}{faults[name]}")
            continue
        columns = []
        for key in ("seconds", "peak"):
            ratios = [theirs[key] / mine[key] for theirs, mine in zip(runs[name], ours, strict=True)]
            columns.append("".join(f"{ratio:9.2f}" for ratio in (min(ratios), median(ratios), max(ratios))))
        other = " *" if any(abs(one["sum"] - ours[0]["sum"]) > 1e-6 * abs(ours[0]["sum"]) for one in runs[name]) else ""
        print(f"{words:21}{columns[0]}  {columns[1]}{other}")
        if other:
            print("  * gives other voxel values")


def run(reader: str, folder: Path) -> dict[str, float]:
    """One reading in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--reader", reader, str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError("fails: " + (done.stderr.strip().splitlines() or ["no word"])[-1][:48])
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="a folder that holds one series")
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--size", type=int, default=512, help="rows and columns")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--reader", choices=list(READERS), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.reader:
        measure(asked.reader, asked.folders[0])
        return
    for folder in asked.folders:
        compare(folder.name, folder, asked.rounds)
    for title, syntax in SYNTAXES.items() if not asked.folders else ():
        with tempfile.TemporaryDirectory() as scratch:
            make_series(Path(scratch), syntax, asked.slices, asked.size)
            compare(f"{title}, {asked.slices} slices of {asked.size} x {asked.size}", Path(scratch), asked.rounds)


if __name__ == "__main__":
    main()
