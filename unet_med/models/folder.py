"""A model folder, read and written: card, weights as safetensors, and the hashes that tie them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from unet_med.card import ModelCard, WeightsFile
from unet_med.errors import ModelRefused
from unet_med.model import Model
from unet_med.models import CARD
from unet_med.network import UNet

Weights = Mapping[str, Tensor]


def load_folder(folder: Path) -> Model:
    """See `unet_med.models.load_model`."""
    card = ModelCard.read(folder / CARD)
    if not card.weights:
        raise ModelRefused(
            "The card names no weights file, so there is nothing to run.",
            where=folder / CARD,
            advice="Use the folder of a finished training run.",
        )
    return Model(card, tuple(_load_network(folder, card, weights) for weights in card.weights), folder)


def save_folder(folder: Path, card: ModelCard, state_dicts: Sequence[Weights], *, dtype: str) -> ModelCard:
    """See `unet_med.models.save_model`."""
    from unet_med.formats.atomic import replacing  # only writing needs it: loading a model imports no file format

    if not state_dicts:
        raise ModelRefused("A model needs the weights of at least one network.", where=folder)
    network = empty_network(folder / CARD, card)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, state in enumerate(state_dicts):
        name = "weights.safetensors" if len(state_dicts) == 1 else f"weights_{number}.safetensors"
        _check_fit(network.state_dict(), state, folder / name)
        content = to_safetensors(_on_disk(state, getattr(torch, dtype), folder / name))
        with replacing(folder / name) as temporary:
            temporary.write_bytes(content)
        written.append(WeightsFile(file=name, sha256=sha256(content).hexdigest()))
    # The card comes last: as long as it is not there, or names other hashes, nobody takes the folder for finished.
    card = card.with_(weights=tuple(written))
    with replacing(folder / CARD) as temporary:
        temporary.write_text(card.to_yaml(), encoding="utf-8")
    return card


def empty_network(where: Path, card: ModelCard) -> UNet:
    """The card's network without memory behind its weights: shapes only, made in no time.

    Raises:
        ModelRefused: numbers on the card that make no network, or a window that does not fit it; `where` is the card.
    """
    try:
        with torch.device("meta"):
            network = UNet.from_card(card)
        network.check_window(card.grid.window)
        return network
    except ValueError as problem:
        raise ModelRefused(
            f"The network on the card does not work: {problem}", where=where, advice="Correct the card."
        ) from problem


def _load_network(folder: Path, card: ModelCard, weights: WeightsFile) -> UNet:
    path = folder / weights.file
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelRefused(
            "The weights file that the card names is missing.", where=path, advice="Copy the whole model folder."
        ) from None
    except OSError as problem:
        raise ModelRefused(f"The weights cannot be read ({problem.__class__.__name__}).", where=path) from problem
    found = sha256(content).hexdigest()
    if found != weights.sha256:
        raise ModelRefused(
            f"The weights are not those of the card: their sha256 begins with {found[:12]}, "
            f"the card says {weights.sha256[:12]}.",
            where=path,
            advice="The file was changed or cut short after the card was written; get the model folder again.",
        )
    try:
        state = parse_safetensors(content)
    except SafetensorError as problem:
        raise ModelRefused(f"The weights are not a safetensors file ({problem}).", where=path) from problem
    network = empty_network(folder / CARD, card)
    _check_fit(network.state_dict(), state, path)
    network.load_state_dict({key: tensor.float() for key, tensor in state.items()}, assign=True)
    return network.eval()


def _check_fit(expected: Weights, given: Weights, where: Path) -> None:
    """Names the first tensor that is missing, of another shape, or too many."""
    advice = 'The weights were trained as another network than the "network" on the card describes.'
    for key, tensor in expected.items():
        if key not in given:
            raise ModelRefused(
                f'The weights lack "{key}" {tuple(tensor.shape)}, which the network of the card has.',
                where=where,
                advice=advice,
            )
        if given[key].shape != tensor.shape:
            raise ModelRefused(
                f'"{key}" has the shape {tuple(given[key].shape)}; '
                f"the network of the card needs {tuple(tensor.shape)}.",
                where=where,
                advice=advice,
            )
    for key in given:
        if key not in expected:
            raise ModelRefused(
                f'The weights hold "{key}" {tuple(given[key].shape)}, which the network of the card does not have.',
                where=where,
                advice=advice,
            )


def _on_disk(state: Weights, dtype: torch.dtype, where: Path) -> dict[str, Tensor]:
    numbers = {key: tensor.detach().to("cpu", dtype).contiguous() for key, tensor in state.items()}
    for key, tensor in numbers.items():
        if not torch.isfinite(tensor).all():
            raise ModelRefused(
                f'"{key}" holds numbers that are not finite as {dtype}.',
                where=where,
                advice="Training diverged, or these weights need float32 on disk.",
            )
    return numbers
