"""A segmentation as a DICOM structure set: outlines along voxel edges, each in the plane of its image.

Holes are cut open (keyholes), since readers disagree about outlines inside of outlines. Written in Implicit VR Little
Endian: an explicit VR has no room for the length of long outlines (PS3.5 6.2.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np

from unet_med.formats.contours import Ring, outlines
from unet_med.formats.dicom_files import numbers, quietly, text, whole
from unet_med.formats.dicom_source import UTF_8, source_series
from unet_med.formats.dicom_write import PATIENT_AND_STUDY
from unet_med.provenance import Provenance, package_versions
from unet_med.segmentation import Label, Segmentation

RT_STRUCTURE_SET, STUDY = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.3.1.2.3.1"
IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"


def structure_set(segmentation: Segmentation, labels: Sequence[Label], provenance: Provenance | None) -> Any:
    """The structure set as a pydicom data set, a region of interest for each label, numbered from 1.

    Raises:
        WrongUse, ScanRefused, FileUnreadable: see `dicom_source.source_series`.
    """
    with quietly():
        series = source_series(segmentation)
        made = _frame(series.headers[0], provenance)
        made.ReferencedFrameOfReferenceSequence = [_references(series.headers)]
        uid = series.headers[0].FrameOfReferenceUID
        made.StructureSetROISequence = [_named(n, label, uid) for n, label in enumerate(labels, start=1)]
        made.ROIContourSequence = [
            _drawn(n, label, segmentation, series.headers) for n, label in enumerate(labels, start=1)
        ]
        made.RTROIObservationsSequence = [_observed(n) for n in range(1, len(labels) + 1)]
    return made


def _frame(first: Any, provenance: Provenance | None) -> Any:
    """All that is not about structures."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, generate_uid

    now = datetime.now()
    made = _item(SOPClassUID=RT_STRUCTURE_SET, SOPInstanceUID=generate_uid(prefix=None))
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = UID(RT_STRUCTURE_SET)
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.file_meta.TransferSyntaxUID = UID(IMPLICIT_LITTLE_ENDIAN)
    made.SpecificCharacterSet = UTF_8
    for tag in (*PATIENT_AND_STUDY, "StudyInstanceUID", "FrameOfReferenceUID"):
        if tag in first:
            setattr(made, tag, first[tag].value)
    made.PositionReferenceIndicator = text(first, "PositionReferenceIndicator")
    made.Modality = "RTSTRUCT"
    made.SeriesInstanceUID = generate_uid(prefix=None)
    made.SeriesNumber = (whole(first, "SeriesNumber") or 0) % 100_000 + 2000
    name = provenance.model if provenance else "unet-med"
    made.SeriesDescription = f"Structures by {name}"[:64]
    made.OperatorsName = ""
    made.Manufacturer = made.ManufacturerModelName = "unet-med"
    made.SoftwareVersions = package_versions().get("unet-med", "unknown")
    made.InstanceNumber = 1
    made.StructureSetLabel = "SEGMENTATION"
    made.StructureSetName = name[:64]
    made.StructureSetDate, made.StructureSetTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    made.ApprovalStatus = "UNAPPROVED"
    return made


def _references(headers: Sequence[Any]) -> Any:
    first = headers[0]
    images = [_item(ReferencedSOPClassUID=each.SOPClassUID, ReferencedSOPInstanceUID=each.SOPInstanceUID)
              for each in headers]  # fmt: skip
    series = _item(SeriesInstanceUID=first.SeriesInstanceUID, ContourImageSequence=images)
    study = _item(
        ReferencedSOPClassUID=STUDY,
        ReferencedSOPInstanceUID=first.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    return _item(FrameOfReferenceUID=first.FrameOfReferenceUID, RTReferencedStudySequence=[study])


def _named(number: int, label: Label, frame_of_reference: str) -> Any:
    return _item(
        ROINumber=number,
        ReferencedFrameOfReferenceUID=frame_of_reference,
        ROIName=label.name[:64],
        ROIGenerationAlgorithm="AUTOMATIC",
    )


def _observed(number: int) -> Any:
    return _item(ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType="", ROIInterpreter="")


def _drawn(number: int, label: Label, segmentation: Segmentation, headers: Sequence[Any]) -> Any:
    contours: list[Any] = []
    for k, header in enumerate(headers):
        plane = segmentation.labels[:, :, k].T
        mask = np.isin(plane, label.region) if label.region else plane == label.value
        for ring in outlines(mask) if mask.any() else []:
            points = _in_patient(ring, header)
            image = _item(ReferencedSOPClassUID=header.SOPClassUID, ReferencedSOPInstanceUID=header.SOPInstanceUID)
            contours.append(
                _item(
                    ContourImageSequence=[image],
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=len(ring),
                    ContourNumber=len(contours) + 1,
                )
            )
            contours[-1].add(_contour_data(points))
    item = _item(ROIDisplayColor=list(label.rgb), ReferencedROINumber=number)
    if contours:
        item.ContourSequence = contours
    return item


def _contour_data(points: Ring) -> Any:
    """Four digits are a tenth of a micrometre, and with their sign never more than 16 characters."""
    from pydicom.dataelem import DataElement

    shown = [f"{part:.4f}" for part in (points.reshape(-1).round(4) + 0.0).tolist()]  # + 0.0: no "-0"
    return DataElement("ContourData", "DS", shown, already_converted=True)  # pydicom would look at each number


def _in_patient(ring: Ring, header: Any) -> Ring:
    """(column, row) -> (N, 3) in DICOM's LPS, by the image's own position (PS3.3 C.7.6.2.1.1)."""
    position, orientation, spacing = (
        np.array(numbers(header, tag, count))
        for tag, count in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2))
    )
    return np.asarray(
        position + ring[:, :1] * spacing[1] * orientation[:3] + ring[:, 1:] * spacing[0] * orientation[3:]
    )


def _item(**tags: Any) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    for tag, content in tags.items():
        setattr(item, tag, content)
    return item
