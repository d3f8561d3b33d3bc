"""The model card: everything a model asks of a scan and promises about a mask. Strict YAML <-> pydantic.

Unknown keys are errors that name the nearest known key. Axis order of every triple is the model's own: R, A, S for
volumes; column, row, slice for planes (see `GridPolicy`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from unet_med.errors import ModelRefused
from unet_med.segmentation import Code, Label
from unet_med.strict_yaml import Strict, read_yaml, to_yaml

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class CodeCard(Strict):
    scheme: str
    value: str
    meaning: str

    def to_code(self) -> Code:
        return Code(self.scheme, self.value, self.meaning)


class LabelCard(Strict):
    """A structure: see `unet_med.segmentation.Label`."""

    value: Annotated[int, Field(ge=1, le=65535)]
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    colour: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
    category: CodeCard | None = None
    anatomy: CodeCard | None = None
    laterality: CodeCard | None = None

    def to_label(self) -> Label:
        category, anatomy, laterality = (
            code.to_code() if code else None for code in (self.category, self.anatomy, self.laterality)
        )
        return Label(self.value, self.name, self.colour, category, anatomy, laterality)


class ChannelCard(Strict):
    """One input channel."""

    name: str
    kind: Literal["image"] = "image"
    modality: str | None = None
    units: str | None = None


class GridPolicy(Strict):
    """On which voxels the network works.

    dimensions: 3 for volumes, reordered to nearest RAS; 2 for planes, walked slice by slice through the acquired plane
        and shown as a radiologist sees it (columns to the patient's left or back, rows to the back or feet).
    spacing: mm between voxel centres along the network's axes (two numbers for planes); None: as acquired.
    window: voxels that the network sees at once, in the same order.
    padding: what surrounds a scan that is smaller than the window, after intensities are scaled.
    interpolation: of the image; scores are always restored linearly.
    """

    dimensions: Literal[2, 3]
    spacing: tuple[Positive, ...] | None
    window: tuple[Count, ...]
    padding: float = 0.0
    interpolation: Literal["cubic", "linear"] = "cubic"

    @model_validator(mode="after")
    def _same_dimensions(self) -> GridPolicy:
        for name, values in (("window", self.window), ("spacing", self.spacing)):
            if values is not None and len(values) != self.dimensions:
                raise ValueError(f"{name} needs {self.dimensions} numbers, not {len(values)}")
        return self


class IntensityPolicy(Strict):
    """How values are scaled, each channel by itself, in this order.

    scope: what the statistics are taken over: the whole (boxed) scan, or each slice by itself (planes of pictures that
        were stretched one by one).
    clip_percentiles: limits as percentiles of the finite voxels; None leaves all values.
    clip_values: limits in the scan's units (e.g. HU).
    scale: "zscore" to mean 0 and standard deviation 1; "unit" to 0..1 between the limits; "none"; or "fixed" with the
        given mean and deviation.
    """

    scope: Literal["scan", "slice"] = "scan"
    clip_percentiles: tuple[float, float] | None = None
    clip_values: tuple[float, float] | None = None
    scale: Literal["zscore", "unit", "fixed", "none"] = "zscore"
    mean: float | None = None
    deviation: Positive | None = None

    @model_validator(mode="after")
    def _consistent(self) -> IntensityPolicy:
        if (self.scale == "fixed") != (self.mean is not None and self.deviation is not None):
            raise ValueError('"mean" and "deviation" go with scale: fixed, and only with it')
        if self.clip_percentiles and not 0 <= self.clip_percentiles[0] < self.clip_percentiles[1] <= 100:
            raise ValueError("clip_percentiles are two rising numbers in 0..100")
        if self.clip_values and not self.clip_values[0] < self.clip_values[1]:
            raise ValueError("clip_values are two rising numbers")
        return self


class NetworkCard(Strict):
    """The U-Net: see `unet_med.network.UNet`, whose arguments these are."""

    encoder: Literal["plain", "residual"]
    widths: Annotated[tuple[Count, ...], Field(min_length=2)]
    strides: tuple[tuple[Count, ...], ...] | None = None
    kernels: tuple[tuple[Count, ...], ...] | None = None
    blocks: Count = 1
    deep_supervision: Annotated[int, Field(ge=0)] = 0


class InferenceDefaults(Strict):
    """How windows are laid, and what is made of scores.

    overlap: share of a window that the next one covers again.
    flips: axes of the window that are mirrored when flips are asked for.
    """

    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    flips: tuple[Annotated[int, Field(ge=0, le=2)], ...] = ()
    activation: Literal["softmax", "sigmoid"] = "softmax"


class Postprocess(Strict):
    """What is done to the whole mask.

    largest_component: label names of which only the largest piece is kept.
    fill_holes: names whose inner holes are filled.
    joint_largest_component: keep only the largest piece of the union of all labels (parts of one organ that touch).
    """

    joint_largest_component: bool = False
    largest_component: tuple[str, ...] = ()
    fill_holes: tuple[str, ...] = ()


class FieldOfView(Strict):
    """The extents of the training scans along the network's axes, smallest and largest, in mm or pixels.

    A scan whose extent lies below half of the smallest or above one and a half times the largest is refused unless
    forced.
    """

    unit: Literal["mm", "pixel"]
    smallest: tuple[Positive, ...]
    largest: tuple[Positive, ...]


class TrainingRecord(Strict):
    """What the weights were made from."""

    recipe: str
    recipe_sha256: Sha256
    data: str
    data_licence: str
    citation: str
    patients: Count
    cases: Count
    steps: Count
    seconds: float
    hardware: str
    versions: dict[str, str]
    split: dict[str, list[str]]
    """Patient keys by part: training, tuning, validation."""


class Scores(Strict):
    """Figures, and on whom they were measured."""

    measured_on: str
    patients: Count
    cases: Count
    settings: str
    metrics: dict[str, dict[str, float]]
    """Label name (or "mean") to metric name to value."""


class WeightsFile(Strict):
    file: str
    sha256: Sha256

    @field_validator("file")
    @classmethod
    def _beside_the_card(cls, value: str) -> str:
        if Path(value).name != value or not value.endswith(".safetensors"):
            raise ValueError("a weights file is a .safetensors file beside the card")
        return value


class ModelCard(Strict):
    """A model in words and numbers. `read` and `to_yaml` are exact inverses."""

    format: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    version: str
    summary: str
    intended_use: str
    limits: tuple[str, ...]
    licence: str
    labels: Annotated[tuple[LabelCard, ...], Field(min_length=1)]
    channels: Annotated[tuple[ChannelCard, ...], Field(min_length=1)]
    grid: GridPolicy
    intensity: IntensityPolicy
    network: NetworkCard
    inference: InferenceDefaults = InferenceDefaults()
    postprocess: Postprocess = Postprocess()
    field_of_view: FieldOfView | None = None
    training: TrainingRecord | None = None
    scores: tuple[Scores, ...] = ()
    weights: tuple[WeightsFile, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> ModelCard:
        names = [label.name for label in self.labels]
        values = [label.value for label in self.labels]
        if len(set(names)) != len(names) or len(set(values)) != len(values):
            raise ValueError("labels need different names and different values")
        asked = {*self.postprocess.largest_component, *self.postprocess.fill_holes}
        if unknown := asked - set(names):
            raise ValueError(f"postprocess names labels that do not exist: {', '.join(sorted(unknown))}")
        if self.inference.flips and max(self.inference.flips) >= self.grid.dimensions:
            raise ValueError(f"flips are axes below {self.grid.dimensions}")
        if self.intensity.scope == "slice" and self.grid.dimensions == 3:
            raise ValueError("intensity.scope: slice is for planes (grid.dimensions: 2)")
        if self.field_of_view and len(self.field_of_view.smallest) != self.grid.dimensions:
            raise ValueError(f"field_of_view needs {self.grid.dimensions} numbers")
        return self

    @property
    def table(self) -> tuple[Label, ...]:
        return tuple(label.to_label() for label in self.labels)

    @property
    def modalities(self) -> set[str]:
        return {channel.modality for channel in self.channels if channel.modality}

    @property
    def scores_out(self) -> int:
        """How many score maps the network gives: background counts as one under softmax."""
        return len(self.labels) + (1 if self.inference.activation == "softmax" else 0)

    @classmethod
    def read(cls, path: Path) -> ModelCard:
        """Raises ModelRefused: see `unet_med.strict_yaml.read_yaml`."""
        return read_yaml(path, cls, ModelRefused)

    def to_yaml(self) -> str:
        return to_yaml(self)

    def __hash__(self) -> int:
        return hash(self.to_yaml())

    def with_(self, **changes: Any) -> ModelCard:
        """A copy with some fields replaced, checked again."""
        return type(self).model_validate({**self.model_dump(), **changes})
