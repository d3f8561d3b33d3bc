"""A segmentation as a DICOM Segmentation object (PS3.3 A.51), made by highdicom from the headers of its series.

The array goes in slice by slice in the order of the headers, and nothing is flipped or sorted: a mask lies on the
plane that was acquired, whether oblique, tilted or unevenly spaced.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unet_med.errors import WriteFailed, WrongUse
from unet_med.formats.cielab import stored_lab
from unet_med.formats.dicom_files import quietly, whole
from unet_med.formats.dicom_source import UTF_8, source_series
from unet_med.provenance import Provenance, package_versions
from unet_med.segmentation import Code, Label, Segmentation, written_labels

TISSUE = Code("SCT", "85756007", "Tissue")
"""What a label without codes is called; the same as in 3D Slicer."""
ANATOMICAL_STRUCTURE = Code("SCT", "123037004", "Anatomical Structure")
ARTIFICIAL_INTELLIGENCE = ("123110", "DCM", "Artificial Intelligence")
LONGEST = 64  # characters of a long string (LO)


def segmentation_object(
    segmentation: Segmentation, kind: Literal["BINARY", "LABELMAP"], provenance: Provenance | None
) -> Any:
    """The object as a pydicom data set.

    Raises:
        WrongUse, ScanRefused, FileUnreadable: see `dicom_source.source_series`; overlaps in a LABELMAP.
        WriteFailed: the headers of the series hold what no object may be made of.
    """
    labels = written_labels(segmentation)
    if not labels:
        raise WrongUse("The segmentation has no label, and a DICOM segmentation needs at least one.")
    if kind == "LABELMAP":
        if any(label.region for label in labels):
            raise WrongUse(
                "The labels overlap, and a label map has one label a voxel.", advice="Write dicom-seg, which has room."
            )
        labels = tuple(sorted(labels, key=lambda label: label.value))
    series = source_series(segmentation)
    first = series.headers[0]
    with _in_words(segmentation), quietly(), _highdicom_quiet():
        import highdicom

        return highdicom.seg.Segmentation(
            source_images=list(series.headers),
            pixel_array=_pixels(segmentation, labels, kind),
            segmentation_type=kind,
            segment_descriptions=_descriptions(labels, kind, provenance),
            series_instance_uid=_new_uid(),
            series_number=(whole(first, "SeriesNumber") or 0) % 100_000 + 1000,
            sop_instance_uid=_new_uid(),
            instance_number=1,
            manufacturer="unet-med",
            manufacturer_model_name="unet-med",
            software_versions=package_versions().get("unet-med", "unknown"),
            device_serial_number="0",
            content_label="SEGMENTATION",
            specific_character_set=UTF_8,
            content_description=(
                "The images name no frame of reference; its UID was made here"
                if series.frame_of_reference_made
                else None
            ),
            series_description=f"Segmentation by {_algorithm(provenance)[0]}"[:LONGEST],
        )


def _pixels(segmentation: Segmentation, labels: tuple[Label, ...], kind: str) -> NDArray[Any]:
    """(K, J, I) of segment numbers; (K, J, I, segments) of 0 and 1 where they overlap."""
    array = segmentation.labels.transpose(2, 1, 0)
    if any(label.region for label in labels):
        return np.stack([np.isin(array, label.region or (label.value,)) for label in labels], axis=-1)
    if kind == "LABELMAP":
        return array
    number = np.zeros(max(label.value for label in labels) + 1, np.uint8 if len(labels) < 256 else np.uint16)
    for n, label in enumerate(labels, start=1):
        number[label.value] = n
    return number[array]


def _descriptions(labels: tuple[Label, ...], kind: str, provenance: Provenance | None) -> list[Any]:
    import highdicom
    from pydicom.sr.coding import Code as DicomCode

    name, version, parameters = _algorithm(provenance)
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name, DicomCode(*ARTIFICIAL_INTELLIGENCE), version, source="unet-med", parameters=parameters
    )
    described = []
    for n, label in enumerate(labels, start=1):
        anatomy = label.anatomy or TISSUE
        category = label.category or (ANATOMICAL_STRUCTURE if label.anatomy else TISSUE)
        one = highdicom.seg.SegmentDescription(
            segment_number=label.value if kind == "LABELMAP" else n,
            segment_label=label.name[:LONGEST],
            segmented_property_category=_coded(category),
            segmented_property_type=_coded(anatomy),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            tracking_uid=_new_uid(),
            tracking_id=label.name[:LONGEST],
        )
        one.RecommendedDisplayCIELabValue = list(stored_lab(label.rgb))
        if label.laterality:
            sided = one.SegmentedPropertyTypeCodeSequence[0]
            sided.SegmentedPropertyTypeModifierCodeSequence = [_coded(label.laterality)]
        described.append(one)
    return described


def _algorithm(provenance: Provenance | None) -> tuple[str, str, dict[str, str] | None]:
    """Name, version and parameters."""
    if provenance is None:
        return "unet-med", package_versions().get("unet-med", "unknown"), None
    version = f"unet-med {provenance.versions.get('unet-med', 'unknown')}"
    weights = {"weights sha256": " ".join(provenance.weights)} if provenance.weights else None
    return provenance.model[:LONGEST], version[:LONGEST], weights


def _coded(code: Code) -> Any:
    import highdicom

    return highdicom.sr.CodedConcept(code.value, code.scheme, code.meaning[:LONGEST])


def _new_uid() -> str:
    from pydicom.uid import generate_uid

    return str(generate_uid(prefix=None))


@contextmanager
def _in_words(segmentation: Segmentation) -> Iterator[None]:
    """What highdicom raises about a header. Its message may repeat values of the header, so it is not shown."""
    try:
        yield
    except (AttributeError, TypeError, ValueError, KeyError, OverflowError) as error:
        raise WriteFailed(
            f"The headers of the series do not allow a DICOM segmentation to be made ({type(error).__name__}).",
            where=segmentation.source.name,
            advice="Write NIfTI or NRRD.",
        ) from error


@contextmanager
def _highdicom_quiet() -> Iterator[None]:
    """An empty mask is logged by highdicom as if it were a fault."""
    logger, silence = logging.getLogger("highdicom"), logging.NullHandler()
    before, logger.propagate = logger.propagate, False
    logger.addHandler(silence)
    try:
        yield
    finally:
        logger.removeHandler(silence)
        logger.propagate = before
