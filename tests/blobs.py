"""A data set that trains in seconds: bright balls (or discs) in noise, two cases a patient, and a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import yaml
from PIL import Image

PATIENTS = 6


def write_blobs(folder: Path, dimensions: int, size: int = 20) -> Path:
    """Two cases a patient: NIfTI volumes with label 1, or PNG pictures with masks of 0 and 255."""
    random = np.random.default_rng(dimensions)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number in range(2 * PATIENTS):
        centre = random.uniform(size * 0.3, size * 0.7, dimensions)
        distance = np.linalg.norm(np.moveaxis(np.indices((size,) * dimensions), 0, -1) - centre, axis=-1)
        blob = distance < size * 0.25
        image = 80 + 60 * blob + random.normal(0, 12, blob.shape)
        case = f"P{number // 2}_{number % 2}"
        if dimensions == 3:
            _write_volume(folder / "images" / f"{case}.nii.gz", image.astype(np.float32))
            _write_volume(folder / "labels" / f"{case}.nii.gz", blob.astype(np.uint8))
        else:
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{case}.png")
            Image.fromarray(blob.astype(np.uint8) * 255).save(folder / "labels" / f"{case}.png")
    return folder


def write_blob_recipe(path: Path, dimensions: int, **changes: Any) -> Path:
    """A recipe for `write_blobs`; `changes` replace its top-level keys."""
    suffix = ".nii.gz" if dimensions == 3 else ".png"
    recipe = {
        "card": {
            "name": "blobs",
            "version": "1.0.0",
            "summary": "Bright balls in noise.",
            "intended_use": "Tests.",
            "limits": ["Finds balls only."],
            "licence": "CC0-1.0",
            "labels": [{"value": 1, "name": "ball", "colour": "#e6550d"}],
            "channels": [{"name": "image"}],
            "grid": {
                "dimensions": dimensions,
                "spacing": [1, 1, 1] if dimensions == 3 else None,
                # A disc is 20 pixels wide: in a window that it fills, instance norm has nothing to compare it with.
                "window": [16] * 3 if dimensions == 3 else [32] * 2,
            },
            "intensity": {"scale": "zscore"},
            "network": {"encoder": "residual", "widths": [6, 12], "deep_supervision": 0},
            "inference": {"flips": [0]},
        },
        "data": {
            "name": "Balls",
            "licence": "CC0 1.0",
            "licence_url": "https://creativecommons.org/publicdomain/zero/1.0/",
            "attribution": "Made by a test.",
            "citation": "None.",
            "images": [f"images/{{case}}{suffix}"],
            "labels": f"labels/{{case}}{suffix}",
            "patient": r"P\d",
            "label_values": {255: 1} if dimensions == 2 else {},
        },
        "split": {"validation": 0.34, "tuning": 0.17, "seed": 3},
        "sampling": {"batch": 2, "foreground": 0.7},
        "augmentation": {
            "affine": {"rotation": 10, "scale": 0.1},
            "flips": {"axes": [0]},
            "noise": {"probability": 0.3, "deviation": 0.1},
        },
        "optimiser": {"learning_rate": 0.01},
        "schedule": {"steps": 40, "warm_up": 3},
        "ema": 0.9,
        "precision": "fp32",
        "tune_every": 20,
        "checkpoint": {"every": 10},
        "workers": 0,
    }
    path.write_text(yaml.safe_dump({**recipe, **changes}))
    return path


def _write_volume(path: Path, data: np.ndarray) -> None:
    image = nib.Nifti1Image(data, np.eye(4))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
