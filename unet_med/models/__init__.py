"""Models by name: the shipped ones, and any folder that looks the same.

A model is a folder with `card.yaml`, one weights file a fold (`weights.safetensors`) and, for people, a README and
pictures. A user's own folder works exactly like a shipped one. Finding and listing read names and cards; only
`load_model` and `save_model` import torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unet_med.card import ModelCard
from unet_med.errors import ModelRefused

if TYPE_CHECKING:
    from torch import Tensor

    from unet_med.model import Model

CARD = "card.yaml"

_SHIPPED = Path(__file__).parent
_EXTRA = _SHIPPED.parents[1] / "extra_models"
"""Beside a checkout: models whose data may not be passed on in a wheel."""


@dataclass(frozen=True)
class ListedModel:
    """A model that can be asked for by name. `folder` holds its card and weights."""

    name: str
    folder: Path
    card: ModelCard

    @property
    def weight_bytes(self) -> int:
        """Size of the weights files on disk."""
        return sum((self.folder / weights.file).stat().st_size for weights in self.card.weights)


def list_models() -> list[ListedModel]:
    """The models that this installation knows by name, in alphabetical order.

    Raises:
        ModelRefused: a card that cannot be read; the installation is damaged.
    """
    return [ListedModel(name, folder, ModelCard.read(folder / CARD)) for name, folder in _known().items()]


def find_model(name_or_folder: str | Path) -> Path:
    """The folder of a model: asked for by a known name, by its folder, or by its card.yaml.

    A known name wins over a folder of that name in the working directory; "./name" means the folder.

    Raises:
        ModelRefused: an unknown name (the nearest known one is named), a missing path, a folder without a card.
    """
    known = _known()
    if isinstance(name_or_folder, str) and name_or_folder in known:
        return known[name_or_folder]
    path = Path(name_or_folder)
    if path.name == CARD and path.is_file():
        return path.parent
    if path.is_dir():
        if not (path / CARD).is_file():
            raise ModelRefused(
                f"The folder has no {CARD}, so it is not a model.",
                where=path,
                advice="Name a folder that `unet-med train` has written.",
            )
        return path
    if path.is_file():
        raise ModelRefused(
            "A model is a folder, and this is a file.",
            where=path,
            advice=f"Name the folder that holds {CARD} and the weights.",
        )
    if len(path.parts) > 1:
        raise ModelRefused("There is no such model folder.", where=path, advice="Check the path.")
    near = get_close_matches(str(name_or_folder), known, n=1, cutoff=0.5)
    raise ModelRefused(
        f'There is no model named "{name_or_folder}", and no folder of that name here.',
        advice=(f"Did you mean {near[0]}? " if near else "")
        + (f"Known models: {', '.join(known)}." if known else "No models are installed; name a model folder."),
    )


def load_model(name_or_folder: str | Path) -> Model:
    """A model, ready to segment: networks in float32 on the CPU, in evaluation mode.

    Weights are verified against the sha256 on the card before they are parsed, and safetensors hold nothing but
    numbers: loading a model runs no code from it.

    Args:
        name_or_folder: as for `find_model`.

    Raises:
        ModelRefused: not found, a card with mistakes, weights that are missing, changed or of another network.
    """
    folder = find_model(name_or_folder)
    from unet_med.models.folder import load_folder

    return load_folder(folder)


def save_model(
    folder: Path,
    card: ModelCard,
    state_dicts: Sequence[Mapping[str, Tensor]],
    *,
    dtype: Literal["float16", "float32"] = "float16",
) -> ModelCard:
    """Writes weights, then the card that names them: a folder that `load_model` takes.

    Args:
        folder: made if it is missing. Files of the same names are replaced, others stay.
        card: its `weights` are replaced by what is written here.
        state_dicts: of the card's `UNet`, one a fold.
        dtype: of the numbers on disk. float16 halves the file and moves scores by about one part in a thousand.

    Returns:
        The card as it was written, with the sha256 of each weights file.

    Raises:
        ModelRefused: tensors that do not fit the card's network, are not finite, or do not fit into `dtype`.
        WriteFailed: disk full, or no permission.
    """
    from unet_med.models.folder import save_folder

    return save_folder(folder, card, state_dicts, dtype=dtype)


def _known() -> dict[str, Path]:
    """Name to folder. A shipped model wins over an extra one of the same name."""
    found: dict[str, Path] = {}
    for root in (_EXTRA, _SHIPPED):
        if root.is_dir():
            found |= {folder.name: folder for folder in root.iterdir() if (folder / CARD).is_file()}
    return dict(sorted(found.items()))
