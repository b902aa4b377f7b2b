"""Crops and their resampling, compared with torchvision's for each clip."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as tv

from mgap_cli.config import AugmentConfig
from mgap_cli.data.loading import augment as augmentation
from mgap_cli.data.loading.augment import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    augment,
    mask,
    random_boxes,
    resize,
    to_float,
)

DRAWS = 6000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frames(batch: int = 4, times: int = 2, height: int = 40, width: int = 48) -> torch.Tensor:
    """Smooth random pictures that all differ: (B, T, H, W, 3) uint8."""
    coarse = torch.randn(batch * times, 3, 9, 9, generator=seeded(7))
    fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    pixels = (40 * fine + 128).clamp(0, 255).byte()
    return pixels.view(batch, times, 3, height, width).permute(0, 1, 3, 4, 2).contiguous()


def torchvisions(height: int, width: int, scale_min: float) -> np.ndarray:
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    boxes = [RandomResizedCrop.get_params(image, (scale_min, 1.0), (3 / 4, 4 / 3)) for _ in range(DRAWS)]
    return np.array(boxes, dtype=np.float64)


# 40 x 100 with large crops: more than half of the draws end in the central fallback.
@pytest.mark.parametrize(
    ("height", "width", "scale_min"), [(256, 256, 0.08), (96, 64, 0.5), (40, 100, 0.4), (32, 32, 0.9)]
)
def test_boxes_are_distributed_as_torchvisions(height, width, scale_min):
    ours = random_boxes(DRAWS, height, width, scale_min, seeded()).double().numpy()
    theirs = torchvisions(height, width, scale_min)

    def summaries(boxes: np.ndarray) -> dict[str, np.ndarray]:
        top, left, h, w = boxes.T
        return {"area": h * w, "ratio": w / h, "top": top, "left": left, "free": top - (height - h) / 2}

    for name, sample in summaries(ours).items():
        assert stats.ks_2samp(sample, summaries(theirs)[name]).pvalue > 1e-3, name
    top, left, h, w = ours.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + h <= height).all()
    assert (left + w <= width).all()
    assert (h >= 1).all()
    assert (w >= 1).all()


@pytest.mark.parametrize(("height", "width"), [(20, 200), (200, 20)])
def test_boxes_that_never_fit_fall_back_to_torchvisions_centre(height, width):
    ours = random_boxes(50, height, width, 0.9, seeded())
    assert (
        np.unique(torchvisions(height, width, 0.9)[:50], axis=0).tolist() == np.unique(ours, axis=0).tolist()
    )
    assert len(np.unique(ours, axis=0)) == 1


def test_boxes_depend_on_their_generator_alone():
    first = random_boxes(50, 64, 64, 0.1, seeded(1))
    torch.manual_seed(99)
    assert torch.equal(first, random_boxes(50, 64, 64, 0.1, seeded(1)))
    assert not torch.equal(first, random_boxes(50, 64, 64, 0.1, seeded(2)))


BOXES = torch.tensor([[3.0, 5, 30, 24], [0, 0, 40, 48], [16, 20, 24, 28], [0, 12, 39, 25]])


def given_boxes(monkeypatch) -> None:
    monkeypatch.setattr(augmentation, "random_boxes", lambda *_: BOXES)


def test_a_crop_equals_torchvisions(monkeypatch):
    given_boxes(monkeypatch)
    clips = frames()
    out = augment(clips, AugmentConfig(image_size=20, flip=False), seeded())
    for clip, cropped, box in zip(clips, out, BOXES.int().tolist(), strict=True):
        expected = tv.resized_crop(to_float(clip[None])[0], *box, size=[20, 20], antialias=False)
        torch.testing.assert_close(cropped, expected, rtol=1e-4, atol=1e-4)


def test_an_enlarged_crop_equals_torchvisions_except_at_its_border(monkeypatch):
    # At the border of a crop, torchvision repeats the last pixel; mgap uses the pixels beyond it.
    given_boxes(monkeypatch)
    clips = frames()
    out = augment(clips, AugmentConfig(image_size=80, flip=False), seeded())
    for clip, cropped, box in zip(clips, out, BOXES.int().tolist(), strict=True):
        expected = tv.resized_crop(to_float(clip[None])[0], *box, size=[80, 80], antialias=False)
        inner = (..., slice(2, -2), slice(2, -2))
        torch.testing.assert_close(cropped[inner], expected[inner], rtol=1e-4, atol=1e-4)


def test_at_the_protocols_sizes_antialiasing_would_change_little():
    """From 256 to 224 pixels, torchvision by default antialiases crops that it reduces, by at most 1.14."""
    clips = torch.randint(256, (24, 1, 16, 16, 3), dtype=torch.uint8, generator=seeded(1))  # edges, no blur
    clips = clips.repeat_interleave(16, dim=2).repeat_interleave(16, dim=3)
    out = augment(clips, AugmentConfig(image_size=224, flip=False), seeded())
    boxes = random_boxes(24, 256, 256, 0.08, seeded()).int().tolist()
    filters = (True, False)
    errors = {filtered: torch.zeros(24) for filtered in filters}
    for i, (clip, box) in enumerate(zip(clips, boxes, strict=True)):
        for filtered in filters:
            expected = tv.resized_crop(to_float(clip[None])[0], *box, size=[224, 224], antialias=filtered)
            errors[filtered][i] = (out[i] - expected)[..., 2:-2, 2:-2].abs().mean() / expected.std()
    assert errors[False].max() < 1e-4
    assert errors[True].max() < 0.01
    shrunk = torch.tensor([max(h, w) > 224 for _, _, h, w in boxes])
    assert shrunk.any() and not shrunk.all()
    assert errors[True][~shrunk].max() < 1e-4


def test_half_of_the_clips_are_mirrored():
    clips = frames(batch=1, times=1).expand(400, -1, -1, -1, -1)
    plain = augment(clips, AugmentConfig(image_size=16, flip=False), seeded(3))
    maybe = augment(clips, AugmentConfig(image_size=16, flip=True), seeded(3))
    mirrored = torch.tensor(
        [torch.allclose(m, tv.hflip(p), atol=1e-4) for m, p in zip(maybe, plain, strict=True)]
    )
    kept = torch.tensor([torch.allclose(m, p, atol=1e-4) for m, p in zip(maybe, plain, strict=True)])
    assert (mirrored ^ kept).all()
    assert stats.binomtest(int(mirrored.sum()), len(mirrored)).pvalue > 1e-3


def test_the_frames_of_a_clip_have_the_same_crop_and_clips_differ():
    picture = frames(batch=1, times=1)
    out = augment(picture.expand(6, 3, -1, -1, -1), AugmentConfig(image_size=16), seeded())
    for clip in out:
        assert torch.equal(clip[0], clip[1])
        assert torch.equal(clip[0], clip[2])
    assert not any(torch.allclose(out[i], out[j]) for i in range(6) for j in range(i))


def test_scale_one_leaves_a_square_frame_as_it_is():
    clips = frames(height=32, width=32)
    config = AugmentConfig(image_size=32, scale_min=1.0, flip=False)
    torch.testing.assert_close(augment(clips, config, seeded()), to_float(clips), rtol=1e-4, atol=1e-4)


def test_resize():
    clips = to_float(frames())
    out = resize(clips, 16)
    assert out.shape == (4, 2, 3, 16, 16)
    torch.testing.assert_close(out, tv.resize(clips, [16, 16], antialias=True), rtol=1e-4, atol=1e-5)
    square = to_float(frames(height=32, width=32))
    assert resize(square, 32) is square


def test_to_float_is_the_imagenet_normalisation():
    pixels = torch.randint(256, (2, 3, 6, 7, 3), dtype=torch.uint8, generator=seeded())
    out = to_float(pixels)
    assert out.shape == (2, 3, 3, 6, 7)
    assert out.dtype == torch.float32
    expected = (pixels.numpy() / 255.0 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    np.testing.assert_allclose(out.numpy(), np.moveaxis(expected, -1, 2), rtol=1e-5, atol=1e-6)


def hidden_widths(
    share: float, batch: int = 3000, height: int = 40, width: int = 60
) -> tuple[np.ndarray, ...]:
    """Return the numbers of fully hidden rows and columns of many spectrograms, (B,) each."""
    audio = torch.randn(batch, 1, height, width, generator=seeded(3))
    masked = mask(audio, share, seeded())
    changed = (masked != audio)[:, 0].numpy()
    rows, columns = changed.all(axis=2), changed.all(axis=1)
    # Only whole rows and whole columns are hidden, and they have the mean of the sample.
    np.testing.assert_array_equal(changed, rows[:, :, None] | columns[:, None, :])
    means = audio.mean(dim=(2, 3), keepdim=True).expand_as(audio)
    np.testing.assert_array_equal(masked.numpy()[:, 0][changed], means.numpy()[:, 0][changed])
    for lines in (rows, columns):  # one band each, not several
        assert (np.abs(np.diff(lines.astype(int), axis=1)).sum(axis=1) <= 2).all()
    return rows.sum(axis=1), columns.sum(axis=1)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_spectrogram_masks_are_uniform_up_to_the_share(share):
    for hidden, size in zip(hidden_widths(share), (40, 60), strict=True):
        assert hidden.max() <= np.ceil(share * size)
        # A band of width w holds w pixel centres on average, w uniform in [0, share * size].
        assert hidden.mean() == pytest.approx(share * size / 2, rel=0.05)


def test_spectrogram_masks_depend_on_their_generator_alone():
    audio = torch.randn(4, 1, 20, 20, generator=seeded(1))
    assert torch.equal(mask(audio, 0.5, seeded(2)), mask(audio, 0.5, seeded(2)))
    assert not torch.equal(mask(audio, 0.5, seeded(2)), mask(audio, 0.5, seeded(3)))
    assert torch.equal(mask(audio, 0.0, seeded(2)), audio)
