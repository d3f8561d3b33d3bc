"""Multi-frame DICOM objects (enhanced CT, MR, PET): a plain header for each frame.

An enhanced object says what its frames share in one sequence and what differs in another, macro by macro, and each
macro may stand in either (PS3.3 C.7.6.16). Here both are looked up for every frame and laid out as if the frame were a
file of its own, so that all that follows knows no difference.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from unet_med.errors import ScanRefused
from unet_med.formats.dicom_files import quietly, sop_class_name, text, value, whole

SHARED, PER_FRAME = GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")

MACROS: dict[str, tuple[str, ...]] = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    "FrameContentSequence": ("StackID", "TemporalPositionIndex", "FrameAcquisitionDateTime"),
    "TemporalPositionSequence": ("TemporalPositionTimeOffset",),
    "CardiacSynchronizationSequence": ("NominalCardiacTriggerDelayTime",),
    "MREchoSequence": ("EffectiveEchoTime",),
    "MRDiffusionSequence": ("DiffusionBValue", "DiffusionGradientDirectionSequence"),
    "MRTimingAndRelatedParametersSequence": ("FlipAngle",),
    "MRImageFrameTypeSequence": ("FrameType", "ComplexImageComponent"),
    "CTImageFrameTypeSequence": ("FrameType",),
    "PETFrameTypeSequence": ("FrameType",),
    "CTReconstructionSequence": ("ConvolutionKernel",),
}
"""What is taken from the functional group macros. Private sequences are not looked into: some hold second positions."""

OWN = {tag for tags in MACROS.values() for tag in tags}
"""Tags that count in a functional group only. At the top level of an enhanced object they are strays."""


def flat_headers(header: Any, path: Path, wanted: Collection[int] | None = None) -> dict[int, Any] | None:
    """A header for each frame by its number from 0; None where the file is a plain single-frame image.

    Args:
        wanted: the frames that are asked for; None for all.

    Raises:
        ScanRefused: missing_geometry, for frames that nothing places; unreadable_instance, where they are miscounted.
    """
    count = whole(header, "NumberOfFrames") or 1
    groups = value(header, PER_FRAME)
    if groups is None:
        name = sop_class_name(text(header, "SOPClassUID"))
        if count == 1 and "Enhanced" not in name:
            return None
        raise ScanRefused(
            f"This is a multi-frame object ({name or 'no SOP class'}, frames: {count}) that does not say where each "
            "frame lies in the patient: it has no functional groups.",
            where=path,
            advice="Convert it to single-frame DICOM or to NIfTI with the scanner's or archive's own tools.",
            code="missing_geometry",
        )
    if len(groups) != count:
        raise ScanRefused(
            f"The header counts {count} frames and describes {len(groups)}; it is damaged.",
            where=path,
            code="unreadable_instance",
        )
    with quietly():
        try:
            return _flat(header, groups, range(count) if wanted is None else sorted(wanted))
        except Exception as error:  # values are converted on access, and a damaged one raises whatever its parser does
            raise ScanRefused(
                f"The descriptions of the frames cannot be read ({type(error).__name__}); the file is damaged.",
                where=path,
                code="unreadable_instance",
            ) from error


def _flat(header: Any, groups: Any, wanted: Iterable[int]) -> dict[int, Any]:
    from pydicom.dataset import Dataset

    common = Dataset()
    for element in header:
        if element.keyword not in (*GROUPS, *OWN):
            common.add(element)
    shared = value(header, SHARED)
    if shared:
        _lay_out(shared[0], common)
    flat = {}
    for number in wanted:
        frame = flat[number] = Dataset()
        frame.update(common)
        _lay_out(groups[number], frame)
    return flat


def _lay_out(group: Any, frame: Any) -> None:
    """Copies what the macros of a functional group say to the top level of `frame`."""
    for macro, tags in MACROS.items():
        items = group.get(macro)
        for tag in tags if items else ():
            if tag not in items[0]:
                continue
            if tag == "FrameType":
                frame.ImageType = items[0].FrameType
            elif tag == "DiffusionGradientDirectionSequence":
                for item in items[0][tag].value[:1]:
                    frame.DiffusionGradientOrientation = item.get("DiffusionGradientOrientation")
            else:
                frame.add(items[0][tag])
