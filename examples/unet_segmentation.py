"""A U-Net from its parts, and a trained one at work.

    python examples/unet_segmentation.py                                  builds a U-Net and prints it stage by stage
    python examples/unet_segmentation.py PICTURE [MODEL]                  also segments a picture or scan

MODEL is left_ventricle_mr unless another is named; `unet-med models` lists them. The mask is written into the working
directory: mask.png of a picture, mask.nii.gz of a volume.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from unet_med import UNet, load_model, read_scan, segment, write_segmentation
from unet_med.architecture import describe


def build() -> None:
    """A 2D U-Net of four stages: grey pictures in, scores of background and one structure out."""
    network = UNet(dimensions=2, in_channels=1, out_channels=2, widths=(16, 32, 64, 128))
    print(describe(network, window=(128, 128)))

    pictures = torch.randn(4, 1, 128, 128)  # (batch, channels, columns, rows)
    scores = network(pictures)  # (batch, labels, columns, rows)
    masks = scores.argmax(dim=1)  # untrained: noise in, noise out
    print(f"\n{tuple(pictures.shape)} -> scores {tuple(scores.shape)} -> masks {tuple(masks.shape)}")

    # The same by hand: down, keeping what each stage saw; across; and up, joining it again.
    x, skips = pictures, []
    for stage in network.encoder:
        x = stage(x)
        skips.append(x)
    x = network.bottleneck(x)
    for stage in network.decoder:
        x = stage(x, skips.pop())
    assert torch.equal(network.head(x), scores)


def use(path: str, model: str) -> None:
    """Segments one scan with a trained model."""
    scan = read_scan(path)
    result = segment(scan, load_model(model))
    for finding in result.findings:
        print(f"{finding.severity}: {finding.message}")
    for mask in result.segmentations:
        for label in mask.table:
            print(f"{label.name}: {mask.voxels(label)} voxels")
    name, kind = ("mask.png", "png") if scan.grid.shape[2] == 1 else ("mask.nii.gz", "nifti")
    write_segmentation(result.segmentations[0], Path(name), kind)
    print(f"written: {name}")


if __name__ == "__main__":
    build()
    if len(sys.argv) > 1:
        use(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "left_ventricle_mr")
