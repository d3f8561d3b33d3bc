"""Models found by name and folder, and model folders that are written, verified and refused."""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import unet_med.models
from unet_med.card import ModelCard
from unet_med.errors import ModelRefused
from unet_med.models import ListedModel, find_model, list_models, load_model, save_model
from unet_med.network import UNet

CARD = ModelCard.model_validate(
    {
        "name": "tiny",
        "version": "1",
        "summary": "For tests.",
        "intended_use": "Tests.",
        "limits": [],
        "licence": "CC0-1.0",
        "labels": [{"value": 1, "name": "disc", "colour": "#ff0000"}],
        "channels": [{"name": "photo"}],
        "grid": {"dimensions": 2, "spacing": None, "window": [32, 16]},
        "intensity": {},
        "network": {"encoder": "residual", "widths": [4, 6, 8], "deep_supervision": 1},
    }
)


@pytest.fixture
def network() -> UNet:
    torch.manual_seed(3)
    return UNet.from_card(CARD)


@pytest.fixture
def folder(tmp_path: Path, network: UNet) -> Path:
    save_model(tmp_path / "tiny", CARD, [network.state_dict()])
    return tmp_path / "tiny"


def test_what_was_saved_is_loaded(folder: Path, network: UNet) -> None:
    model = load_model(folder)
    (loaded,) = model.networks
    assert model.folder == folder
    assert not loaded.training
    assert {value.dtype for value in load_file(folder / "weights.safetensors").values()} == {torch.float16}
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, network.state_dict()[key].half().float()), key
    picture = torch.randn(1, 1, 32, 16, generator=torch.Generator().manual_seed(1))
    scores, before = loaded(picture), network.eval()(picture)
    assert scores.shape == (1, 2, 32, 16)
    assert (scores - before).abs().max() < 0.01 * before.abs().max()


def test_the_card_on_disk_is_the_card_returned_and_names_the_hash(tmp_path: Path, network: UNet) -> None:
    card = save_model(tmp_path, CARD, [network.state_dict()])
    assert card == ModelCard.read(tmp_path / "card.yaml") == load_model(tmp_path).card
    assert [weights.file for weights in card.weights] == ["weights.safetensors"]
    assert card.weights[0].sha256 == sha256((tmp_path / "weights.safetensors").read_bytes()).hexdigest()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.yaml", "weights.safetensors"]


def test_float32_on_disk_is_exact(tmp_path: Path, network: UNet) -> None:
    save_model(tmp_path, CARD, [network.state_dict()], dtype="float32")
    (loaded,) = load_model(tmp_path).networks
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in loaded.state_dict().items())


def test_saving_twice_gives_the_same_bytes_and_replaces_the_files(tmp_path: Path, network: UNet) -> None:
    first = save_model(tmp_path, CARD, [UNet.from_card(CARD).state_dict()])
    second = save_model(tmp_path, CARD, [network.state_dict()])
    third = save_model(tmp_path / "elsewhere", CARD, [dict(reversed(network.state_dict().items()))])
    assert first.weights != second.weights == third.weights
    load_model(tmp_path)


def test_each_fold_has_a_file_and_a_network(tmp_path: Path, network: UNet) -> None:
    other = UNet.from_card(CARD)
    card = save_model(tmp_path, CARD, [network.state_dict(), other.state_dict()])
    assert [weights.file for weights in card.weights] == ["weights_0.safetensors", "weights_1.safetensors"]
    first, second = load_model(tmp_path).networks
    assert torch.equal(first.head.weight, network.head.weight.half().float())
    assert torch.equal(second.head.weight, other.head.weight.half().float())


def test_a_loaded_network_can_be_trained_on(folder: Path) -> None:
    (loaded,) = load_model(folder).networks
    full, half = loaded.train()(torch.randn(2, 1, 32, 16))
    (full.square().mean() + half.square().mean()).backward()
    assert all(value.grad is not None for value in loaded.parameters())


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["flip a bit", "cut short", "empty", "replace by a pickle"])
def test_weights_that_are_not_those_of_the_card_are_refused(folder: Path, damage: str, network: UNet) -> None:
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "flip a bit":
        content[-1] ^= 1
        path.write_bytes(content)
    elif damage == "cut short":
        path.write_bytes(content[:-100])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        torch.save(network.state_dict(), path)
    with pytest.raises(ModelRefused, match=r"weights\.safetensors: The weights are not those of the card.*sha256"):
        load_model(folder)


def test_a_file_with_the_right_hash_that_is_no_safetensors_is_refused(folder: Path) -> None:
    _replace_weights(folder, b"not weights at all")
    with pytest.raises(ModelRefused, match="not a safetensors file"):
        load_model(folder)


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()
    with pytest.raises(ModelRefused, match=r"weights\.safetensors: .*missing"):
        load_model(folder)


def test_a_card_without_weights_is_refused(folder: Path) -> None:
    (folder / "card.yaml").write_text(CARD.to_yaml())
    with pytest.raises(ModelRefused, match="names no weights"):
        load_model(folder)


def test_a_misspelt_key_names_the_nearest(folder: Path) -> None:
    path = folder / "card.yaml"
    path.write_text(path.read_text().replace("\nlicence:", "\nlicense:"))
    with pytest.raises(ModelRefused, match=r'card\.yaml: .*"license" is not a known key; did you mean "licence"'):
        load_model(folder)


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("deep_supervision: 1", "deep_supervision: 2", r"deep_supervision counts .* 0 to 1 here, not 2"),
        (
            "window: [32, 16]",
            "window: [32, 18]",
            r"A window of 32 x 18 does not fit this network: .* multiples of 4 x 4",
        ),
    ],
)
def test_a_card_whose_network_cannot_be_built_is_refused(folder: Path, right: str, wrong: str, words: str) -> None:
    path = folder / "card.yaml"
    path.write_text(path.read_text().replace(right, wrong))
    with pytest.raises(ModelRefused, match=r"card\.yaml: The network on the card does not work: " + words):
        load_model(folder)


def test_weights_of_another_shape_name_the_first_tensor_and_both_shapes(folder: Path) -> None:
    path = folder / "card.yaml"
    path.write_text(path.read_text().replace("widths: [4, 6, 8]", "widths: [4, 6, 10]"))
    with pytest.raises(ModelRefused) as refusal:
        load_model(folder)
    assert '"bottleneck.0.conv1.conv.weight" has the shape (8, 6, 3, 3)' in str(refusal.value)
    assert "needs (10, 6, 3, 3)" in str(refusal.value)


def test_weights_with_a_tensor_too_few_or_too_many_are_refused(folder: Path, tmp_path: Path) -> None:
    state = load_file(folder / "weights.safetensors")
    head = state.pop("heads.1.bias")
    save_file(state, tmp_path / "changed.safetensors")
    _replace_weights(folder, (tmp_path / "changed.safetensors").read_bytes())
    with pytest.raises(ModelRefused, match=r'lack "heads\.1\.bias" \(2,\)'):
        load_model(folder)
    save_file({**state, "heads.1.bias": head, "heads.2.bias": head.clone()}, tmp_path / "changed.safetensors")
    _replace_weights(folder, (tmp_path / "changed.safetensors").read_bytes())
    with pytest.raises(ModelRefused, match=r'hold "heads\.2\.bias" \(2,\)'):
        load_model(folder)


@pytest.mark.parametrize(("value", "dtype"), [(70_000.0, "float16"), (float("nan"), "float32")])
def test_numbers_that_would_not_survive_are_not_saved(tmp_path: Path, network: UNet, value: float, dtype: str) -> None:
    state = network.state_dict()
    state["heads.0.bias"][1] = value
    with pytest.raises(ModelRefused, match=r'"heads\.0\.bias" holds numbers that are not finite'):
        save_model(tmp_path, CARD, [state], dtype=dtype)
    assert not list(tmp_path.iterdir())


def test_a_state_of_another_network_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match=r'lack "heads\.1\.weight"'):
        save_model(tmp_path, CARD, [UNet(2, 1, 2, (4, 6, 8)).state_dict()])
    with pytest.raises(ModelRefused, match="at least one network"):
        save_model(tmp_path, CARD, [])
    assert not list(tmp_path.iterdir())


# -- finding ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation that ships one model, "tiny", and knows an extra one, "vast"."""
    monkeypatch.setattr(unet_med.models, "_SHIPPED", tmp_path)
    extra = tmp_path / "beside"
    (extra / "vast").mkdir(parents=True)
    (extra / "vast" / "card.yaml").write_text(CARD.with_(name="vast").to_yaml())
    (extra / "notes").mkdir()
    monkeypatch.setattr(unet_med.models, "_EXTRA", extra)
    return tmp_path


def test_a_model_is_found_by_name_by_folder_and_by_card(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = installed / "tiny"
    assert find_model("tiny") == find_model(str(tiny)) == find_model(tiny) == find_model(tiny / "card.yaml") == tiny
    assert find_model("vast") == installed / "beside" / "vast"
    monkeypatch.chdir(tiny)
    assert find_model(".").resolve() == find_model("card.yaml").resolve() == tiny


def test_known_models_are_listed_in_order_with_their_size(installed: Path) -> None:
    tiny, vast = list_models()
    assert tiny == ListedModel("tiny", installed / "tiny", ModelCard.read(installed / "tiny" / "card.yaml"))
    assert vast.name == "vast"
    assert tiny.weight_bytes == (installed / "tiny" / "weights.safetensors").stat().st_size
    assert vast.weight_bytes == 0


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("tinny", r'no model named "tinny".*Did you mean tiny\? Known models: tiny, vast\.'),
        ("liver", r'no model named "liver".*folder of that name here\. Known models: tiny, vast\.'),
        ("no/such/folder", "no/such/folder: There is no such model folder"),
        ("{root}/beside", r"beside: The folder has no card\.yaml"),
        ("{root}/tiny/weights.safetensors", r"weights\.safetensors: A model is a folder"),
    ],
)
def test_what_is_not_a_model_is_refused_with_advice(installed: Path, asked: str, words: str) -> None:
    with pytest.raises(ModelRefused, match=words):
        find_model(asked.format(root=installed))


def test_shipped_models_are_called_as_their_cards_say() -> None:
    assert all(model.name == model.card.name == model.folder.name for model in list_models())


def test_finding_and_listing_models_loads_no_torch() -> None:
    script = (
        "import sys; from unet_med.models import list_models, find_model, load_model; list_models();"
        "print(sorted({'torch', 'monai', 'safetensors'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def _replace_weights(folder: Path, content: bytes) -> None:
    """Other weights, honestly hashed: as somebody would who edits a model folder."""
    (folder / "weights.safetensors").write_bytes(content)
    card = ModelCard.read(folder / "card.yaml")
    weights = card.weights[0].model_copy(update={"sha256": sha256(content).hexdigest()})
    (folder / "card.yaml").write_text(card.with_(weights=(weights,)).to_yaml())
