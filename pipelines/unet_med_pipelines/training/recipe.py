"""The recipe: everything that decides what a training run makes. Strict YAML; the recipe alone is authoritative.

A recipe has no paths of one machine in it: images and labels are named by patterns relative to the data folder that the
command is given.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from unet_med.card import Count, ModelCard, Positive
from unet_med.errors import WrongUse
from unet_med.strict_yaml import Strict, read_yaml

Share = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(gt=0, lt=1)]
Range = tuple[Positive, Positive]
Axis = Annotated[int, Field(ge=0, le=2)]

CASE = "{case}"
"""The placeholder in a pattern that stands for the name of a case."""


class PatientTable(Strict):
    """A CSV table in the data folder that names the patient of each case."""

    table: str
    case: str
    patient: str


class DataRecipe(Strict):
    """Which files of the data folder are used, and whose they are.

    name, licence, licence_url, attribution, citation: for the card and LICENSE.txt.
    images: one pattern a channel, or one pattern for files that hold all channels. In a pattern `{case}` stands for
        the name of a case (it may span folders), `*` for anything within a folder name. `images/{case}.png` pairs with
        `masks/{case}.png`.
    labels: the pattern of the label files.
    patient: a regular expression whose first group (else the whole match) in the path of the first image, relative to
        the data folder, is the patient; or a table. None: each case is a patient of its own.
    label_values: value in the files -> value on the card, where they differ.
    """

    name: str
    licence: str
    licence_url: str
    attribution: str
    citation: str
    images: Annotated[tuple[str, ...], Field(min_length=1)]
    labels: str
    patient: str | PatientTable | None = None
    label_values: dict[int, int] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _patterns(self) -> Self:
        for pattern in (*self.images, self.labels):
            if pattern.count(CASE) != 1:
                raise ValueError(
                    f"the pattern {pattern!r} needs {CASE} exactly once, where the name of the case stands"
                )
            if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
                raise ValueError(f"the pattern {pattern!r} must be relative to the data folder and stay inside it")
        if isinstance(self.patient, str):
            try:
                re.compile(self.patient)
            except re.error as problem:
                raise ValueError(
                    f"the patient pattern {self.patient!r} is not a regular expression: {problem}"
                ) from None
        return self


class SplitRecipe(Strict):
    """Shares of the patients that are kept from training.

    validation: for the figures on the card; neither training nor the choice of a checkpoint sees them.
    tuning: watched during training, and asked for the best checkpoint.
    """

    validation: Share
    tuning: Share = 0.0
    seed: int = 0

    @model_validator(mode="after")
    def _leaves_some(self) -> Self:
        if self.validation + self.tuning >= 1:
            raise ValueError("validation and tuning leave no patient to train on")
        return self


class SamplingRecipe(Strict):
    """batch: patches a step. foreground: share of them centred on a labelled voxel, structures drawn evenly."""

    batch: Count
    foreground: Share = 0.5


class AffineStrength(Strict):
    """One affine for all: rotation and shear in degrees and as a factor, scale as a share, translation in voxels."""

    probability: Share = 1.0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    shear: Annotated[float, Field(ge=0, lt=1)] = 0.0
    translation: Annotated[float, Field(ge=0)] = 0.0


class ElasticStrength(Strict):
    """Smooth random displacements: distance of the control points and their largest shift, in voxels. Planes only."""

    probability: Share
    spacing: Positive = 32.0
    magnitude: Positive = 2.0


class FlipStrength(Strict):
    """Axes of the window, each mirrored by itself with the given probability."""

    probability: Share = 0.5
    axes: Annotated[tuple[Axis, ...], Field(min_length=1)]


class NoiseStrength(Strict):
    """Gaussian noise; the deviation is drawn from 0 to the one given, in prepared intensities."""

    probability: Share
    deviation: Positive


class BlurStrength(Strict):
    """Gaussian smoothing, sigma in voxels drawn from the range."""

    probability: Share
    sigma: Range


class GammaStrength(Strict):
    """Contrast: intensities, as a share of their range, to a power drawn from the range."""

    probability: Share
    gamma: Range


class BrightnessStrength(Strict):
    """Intensities times 1 +- factor, plus +- shift."""

    probability: Share
    factor: Annotated[float, Field(ge=0, lt=1)] = 0.0
    shift: Annotated[float, Field(ge=0)] = 0.0


class ResolutionStrength(Strict):
    """Intensities sampled down by a factor from the range (below 1) and up again."""

    probability: Share
    zoom: Range


class AugmentationRecipe(Strict):
    """What is done to patches, each only where it is named."""

    affine: AffineStrength | None = None
    elastic: ElasticStrength | None = None
    flips: FlipStrength | None = None
    noise: NoiseStrength | None = None
    blur: BlurStrength | None = None
    gamma: GammaStrength | None = None
    brightness: BrightnessStrength | None = None
    low_resolution: ResolutionStrength | None = None


class LossRecipe(Strict):
    """Soft Dice plus cross-entropy. batch_dice: sums run over the whole batch, which steadies small structures."""

    dice: Annotated[float, Field(ge=0)] = 1.0
    cross_entropy: Annotated[float, Field(ge=0)] = 1.0
    batch_dice: bool = False


class OptimiserRecipe(Strict):
    """AdamW. clip: the largest norm of the gradient."""

    learning_rate: Positive
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    clip: Positive = 12.0


class ScheduleRecipe(Strict):
    """Linear warm-up, then down to `final` times the learning rate along a cosine, or a polynomial (power 0.9)."""

    steps: Count
    warm_up: Annotated[int, Field(ge=0)] = 0
    shape: Literal["cosine", "poly"] = "cosine"
    final: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Self:
        if self.warm_up >= self.steps:
            raise ValueError(f"a warm-up of {self.warm_up} steps leaves none of {self.steps}")
        return self


class CheckpointRecipe(Strict):
    """every: steps between checkpoints. keep: whose averaged weights are shipped, the last ones or the best on
    tuning cases.
    """

    every: Count = 100
    keep: Literal["last", "best"] = "last"


class Recipe(Strict):
    """A whole training run.

    card: the parts of the model card that are decided, not measured.
    ema: decay of the exponential moving average of the weights, per step; the averaged weights are shipped.
    precision: of the network's arithmetic in training; auto takes bf16 (or fp16) where the hardware gains from it.
    tune_every: steps between looks at the tuning cases; 0 for never.
    workers: processes that make batches; they do not change what is in a batch.
    """

    card: ModelCard
    data: DataRecipe
    split: SplitRecipe
    sampling: SamplingRecipe
    augmentation: AugmentationRecipe = AugmentationRecipe()
    loss: LossRecipe = LossRecipe()
    optimiser: OptimiserRecipe
    schedule: ScheduleRecipe
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    tune_every: Annotated[int, Field(ge=0)] = 0
    checkpoint: CheckpointRecipe = CheckpointRecipe()
    seed: Annotated[int, Field(ge=0)] = 0
    workers: Annotated[int, Field(ge=0)] = 1

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        card = self.card
        measured = [name for name in ("field_of_view", "training", "scores", "weights") if getattr(card, name)]
        if measured:
            raise ValueError(f"card: {', '.join(measured)} are written by the training run, not by its recipe")
        if card.inference.activation != "softmax":
            raise ValueError("card.inference.activation: only softmax can be trained")
        if len(self.data.images) not in (1, len(card.channels)):
            raise ValueError(
                f"data.images: one pattern, or one for each of the {len(card.channels)} channels,"
                f" not {len(self.data.images)}"
            )
        values = {label.value for label in card.labels}
        if unknown := {value for value in self.data.label_values.values() if value} - values:
            raise ValueError(f"data.label_values leads to values that no label of the card has: {sorted(unknown)}")
        if (self.tune_every or self.checkpoint.keep == "best") and not self.split.tuning:
            raise ValueError("tune_every and checkpoint.keep: best need tuning cases (split.tuning above 0)")
        if self.split.tuning and not self.tune_every:
            raise ValueError("split.tuning keeps patients from training that nothing looks at: set tune_every")
        if self.checkpoint.keep == "best" and not self.tune_every:
            raise ValueError("checkpoint.keep: best needs tune_every above 0")
        if self.augmentation.elastic and card.grid.dimensions == 3:
            raise ValueError("augmentation.elastic is for planes; for volumes it costs more time than it is worth")
        if self.augmentation.flips and max(self.augmentation.flips.axes) >= card.grid.dimensions:
            raise ValueError(f"augmentation.flips.axes are axes below {card.grid.dimensions}")
        return self

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Raises WrongUse with every mistake of the file: see `unet_med.strict_yaml.read_yaml`."""
        return read_yaml(path, cls, WrongUse)


def sha256_of(path: Path) -> str:
    """sha256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
