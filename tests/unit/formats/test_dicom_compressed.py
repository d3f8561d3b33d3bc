"""Compressed pixels are decoded by one named decoder in a child process; a fault in them costs the scan only."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
from dicom_builder import picture, positions, read, save, set_pixels
from PIL import Image
from pydicom.encaps import encapsulate, get_frame

from unet_med.errors import ScanRefused
from unet_med.formats import dicom_decoder

RLE, JPEG, JPEG_LOSSLESS, JPEG_LOSSLESS_FIRST, JPEG_LS, JPEG_2000, HTJ2K = (
    f"1.2.840.10008.1.2.{n}" for n in ("5", "4.50", "4.57", "4.70", "4.80", "4.90", "4.201")
)


@pytest.fixture(autouse=True, scope="module")
def no_worker_outlives_the_tests() -> Iterator[None]:
    yield
    dicom_decoder._close_workers()


def workers() -> list[int]:
    return [worker.process.pid for worker in dicom_decoder._idle.get(os.getpid(), [])]


def noisy(k: int) -> np.ndarray:
    """12 bits, large enough for a decoder to go astray in."""
    return np.random.default_rng(k).integers(0, 4096, (40, 48)).astype(np.uint16)


def compressed(folder: Path, syntax: str, pixels: Callable[[int], np.ndarray] = noisy, count: int = 3) -> Path:
    """A series of 12-bit slices, packed by an encoder that is not the decoder where there is a choice."""
    save(folder, positions(count), change=lambda one, k: set_pixels(one, pixels(k), bits=12))
    for path in folder.iterdir():
        one = pydicom.dcmread(path)
        if syntax in (JPEG_LOSSLESS, JPEG_LOSSLESS_FIRST):
            packed_by_gdcm(path, syntax)
        else:
            one.compress(syntax, generate_instance_uid=False)
            one.save_as(path)
    return folder


def packed_by_gdcm(path: Path, syntax: str) -> None:
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    known = {
        JPEG_LOSSLESS: gdcm.TransferSyntax.JPEGLosslessProcess14,
        JPEG_LOSSLESS_FIRST: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    }
    change.SetTransferSyntax(gdcm.TransferSyntax(known[syntax]))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def damage(path: Path, change: Callable[[bytes], bytes]) -> None:
    one = pydicom.dcmread(path)
    frame = get_frame(one.PixelData, 0, number_of_frames=1)
    one.PixelData = encapsulate([change(frame)])
    one.save_as(path)


def refusal(folder: Path) -> ScanRefused:
    with pytest.raises(ScanRefused) as caught:
        read(folder)
    assert caught.value.code == "unreadable_instance"
    return caught.value


@pytest.mark.parametrize("syntax", [RLE, JPEG_LOSSLESS, JPEG_LOSSLESS_FIRST, JPEG_LS, JPEG_2000])
def test_lossless_compression_gives_the_very_values(tmp_path: Path, syntax: str) -> None:
    folder = compressed(tmp_path, syntax)
    assert {pydicom.dcmread(path).file_meta.TransferSyntaxUID for path in folder.iterdir()} == {syntax}
    scan = read(folder)
    for k in range(3):
        np.testing.assert_array_equal(scan.data[0, :, :, k].T, noisy(k))
    assert workers()


def test_8_bit_jpeg_gives_the_values_that_another_program_decodes(tmp_path: Path) -> None:
    grey = Image.fromarray(np.add.outer(np.arange(40), 3 * np.arange(48)).astype(np.uint8))
    grey.save(tmp_path / "slice.jpg", quality=90)
    folder = save(tmp_path / "series", positions(2), change=lambda one, k: set_pixels(one, np.asarray(grey)))
    for path in folder.iterdir():
        one = pydicom.dcmread(path)
        one.file_meta.TransferSyntaxUID = JPEG
        one.PixelData = encapsulate([(tmp_path / "slice.jpg").read_bytes()])
        one["PixelData"].VR = "OB"
        one.save_as(path)
    scan = read(folder)
    np.testing.assert_array_equal(scan.data[0, :, :, 1].T, np.asarray(Image.open(tmp_path / "slice.jpg")))


def test_signed_values_keep_their_sign(tmp_path: Path) -> None:
    signed = np.arange(-2000, -2000 + 40 * 48, dtype=np.int16).reshape(40, 48)
    scan = read(compressed(tmp_path, JPEG_LS, lambda k: signed, count=2))
    np.testing.assert_array_equal(scan.data[0, :, :, 0].T, signed)


def test_what_is_not_compressed_starts_no_child(tmp_path: Path) -> None:
    dicom_decoder._close_workers()
    read(save(tmp_path))
    assert not workers()


def test_children_are_kept_for_the_next_series(tmp_path: Path) -> None:
    folder = compressed(tmp_path, JPEG_LS)
    read(folder)
    before = workers()
    read(folder)
    assert workers() == before


@pytest.mark.parametrize("syntax", [RLE, JPEG_LOSSLESS_FIRST, JPEG_LS, JPEG_2000])
def test_a_stream_cut_short_is_refused_and_named(tmp_path: Path, syntax: str) -> None:
    folder = compressed(tmp_path, syntax)
    damage(folder / "001.dcm", lambda frame: frame[: 2 * len(frame) // 3])
    error = refusal(folder)
    assert str(error.where).endswith("001.dcm")


@pytest.mark.parametrize("syntax", [RLE, JPEG_LOSSLESS_FIRST, JPEG_LS, JPEG_2000])
def test_a_stream_with_a_hole_in_it_is_refused(tmp_path: Path, syntax: str) -> None:
    folder = compressed(tmp_path, syntax)
    damage(folder / "001.dcm", lambda frame: frame[: len(frame) // 2] + frame[len(frame) // 2 + 301 :])
    refusal(folder)


def test_a_file_that_changed_is_decoded_anew(tmp_path: Path) -> None:
    folder = compressed(tmp_path, JPEG_LS, count=1)
    read(folder)
    compressed(tmp_path, JPEG_LS, lambda k: noisy(k + 7), count=1)
    np.testing.assert_array_equal(read(folder).data[0, :, :, 0].T, noisy(7))


def test_a_decoder_that_dies_costs_the_scan_and_nothing_else(tmp_path: Path) -> None:
    folder = compressed(tmp_path, JPEG_LS)
    read(folder)
    # A child that is stopped cannot answer; it is killed under the request, as an abort would end it.
    for pid in workers():
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
    error = refusal(folder)
    assert "crashed" in error.what
    assert "pyjpegls" in error.what
    np.testing.assert_array_equal(read(folder).data[0, :, :, 2].T, noisy(2))


def test_a_decoder_that_was_killed_while_it_waited_is_replaced(tmp_path: Path) -> None:
    folder = compressed(tmp_path, JPEG_LS)
    read(folder)
    for worker in dicom_decoder._idle[os.getpid()]:
        worker.process.kill()
        worker.process.wait()
    np.testing.assert_array_equal(read(folder).data[0, :, :, 2].T, noisy(2))


def test_a_decoder_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = compressed(tmp_path, JPEG_LS)
    read(folder)
    monkeypatch.setattr(dicom_decoder, "PATIENCE", 0.05)
    for pid in workers():
        os.kill(pid, signal.SIGSTOP)
    assert "does not come to an end (10 s)" in refusal(folder).what


def test_a_decoder_that_computes_without_end_is_stopped_by_the_system(tmp_path: Path) -> None:
    folder = compressed(tmp_path, JPEG_LS, count=1)
    read(folder)
    # As the system does it: the signal that a process gets when its time is used up.
    for pid in workers():
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(0.3, os.kill, (pid, signal.SIGXCPU)).start()
        threading.Timer(0.4, os.kill, (pid, signal.SIGCONT)).start()
    assert "does not come to an end" in refusal(folder).what


def test_many_slices_come_in_their_order(tmp_path: Path) -> None:
    scan = read(compressed(tmp_path, RLE, lambda k: picture(k).astype(np.uint16) % 4096, count=12))
    assert scan.data[0, 0, 0].tolist() == [1000 * k % 4096 for k in range(12)]
    assert len(workers()) <= dicom_decoder.MOST_WORKERS


def test_12_bit_jpeg_is_refused_by_name(tmp_path: Path) -> None:
    folder = compressed(tmp_path, JPEG_LS)
    for path in folder.iterdir():
        one = pydicom.dcmread(path)
        one.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.51"
        one.save_as(path)
    with pytest.raises(ScanRefused, match="12 bit") as caught:
        read(folder)
    assert caught.value.code == "unsupported_transfer_syntax"


def test_a_sign_that_header_and_stream_state_differently_is_refused(tmp_path: Path) -> None:
    folder = compressed(tmp_path, JPEG_2000)
    for path in folder.iterdir():
        one = pydicom.dcmread(path)
        one.PixelRepresentation = 1
        one.save_as(path)
    assert "opposite" in refusal(folder).what
