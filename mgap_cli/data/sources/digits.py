"""The embedded data set: real handwritten digits shown to a camera, and their telephone tones.

The pictures are scikit-learn's 1,797 digits (8 x 8 scans of real handwriting), upscaled onto a card that
is held to a camera: it shifts, turns and flickers a little from frame to frame. The sound is the digit's
DTMF tone pair (ITU-T Q.23) in noise. The picture is degraded in a quarter of the samples and the sound in
another quarter, drawn with the seed. The column `degraded` of clips.csv says which, so that an analysis can
be checked against the truth.

A variant replaces every picture (see digit_pictures.py); the sounds stay the same. The column `degraded` then
says `visual` if the picture shows less than it should, `audio` if the sound is degraded, or `both`; the
column `variant` names the variant.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from mgap_cli.config import DataConfig, DigitsVariant
from mgap_cli.data.clips import Clip, Dataset
from mgap_cli.data.sources import SourceOptions, digit_pictures
from mgap_cli.data.splits import carve_validation, stratified_choice
from mgap_cli.errors import UsageError

SUMMARY = "1,797 real handwritten digits with their telephone tones; needs no download"
OPTIONS = frozenset({"variant"})

TEST_SHARE = 0.3  # 539 samples: a standard error of about 2 % at 80 % accuracy
DEGRADED_SHARE = 0.25  # share of each stream: half of the samples have two good streams

ROWS_HZ = (697, 770, 852, 941)  # ITU-T Q.23
COLUMNS_HZ = (1209, 1336, 1477)
KEYPAD = ("123", "456", "789", "*0#")

# Sound: a tone of 100 to 250 ms at a random time, so that the network has to find it.
TONE_SECONDS = (0.1, 0.25)
GAIN = (0.05, 0.3)  # amplitude of each tone; full scale is 1
TWIST_DB = (-4.0, 4.0)  # level of the high tone relative to the low one; Q.24 receivers accept 4 dB
SNR_DB = (-7.0, 5.0)  # intact; a network still makes some errors
DEGRADED_SNR_DB = (-25.0, -15.0)  # masked

# Picture: the card is 80 % as wide and high as the frame.
CARD = 0.8
SHIFT = 0.06  # shift, as a share of the side (standard deviation)
TURN = 0.15  # turn in radians (standard deviation), about 9 degrees
SHIVER = 0.15  # movement from frame to frame, as a share of the two above
CONTRAST = (0.35, 0.8)
TINT = 0.08  # spread of the gains of the colour channels
NOISE = 0.12  # noise of the sensor (standard deviation); full scale is 1
DEGRADED_NOISE = 0.35
DEGRADED_BLUR = 0.12  # Gaussian, of the side
OCCLUSION = 0.5  # of the side: a bar over half of the card


@dataclass(frozen=True)
class DigitsReader:
    """Generates a clip from the number in its id; the same seed gives the same clip, in any order."""

    seed: int
    variant: DigitsVariant | None = None

    def __call__(self, clip: Clip, config: DataConfig) -> tuple[np.ndarray, np.ndarray]:
        """Return frames (T, H, W, 3) uint8 and a waveform (n,) float32 at `sample_rate`."""
        number = int(clip.id.removeprefix("digit_"))
        degraded = clip.extra["degraded"]
        picture, sound = (np.random.default_rng([self.seed, number, stream]) for stream in (1, 2))
        if self.variant == "uninformative":
            frames = digit_pictures.wall(picture, config)
        elif self.variant == "memorised":
            frames = digit_pictures.mosaic(picture, config)
        elif self.variant == "late":
            frames = digit_pictures.stripes(picture, int(clip.label), config)
        else:
            frames = _frames(picture, _scans()[0][number], config, degraded in ("visual", "both"))
        return frames, _tone(sound, int(clip.label), config, degraded in ("audio", "both"))


def load(root: Path | None, config: DataConfig, options: SourceOptions) -> Dataset:
    """Return the 1,797 clips, split 63/7/30 and stratified, by `config.seed`."""
    if root is not None:
        raise UsageError("digits is embedded and takes no folder.", "mgap prepare digits -o STORE")
    if config.sample_rate < 4_000:
        raise UsageError("digits needs data.sample_rate of 4000 or more: its tones reach 1477 Hz.")
    labels = {f"digit_{i:04}": str(label) for i, label in enumerate(_scans()[1])}
    test = stratified_choice(labels, TEST_SHARE, config.seed)
    degraded = _degraded({i: f"{label} {i in test}" for i, label in labels.items()}, config.seed)
    clips = [
        Clip(
            i,
            label,
            "test" if i in test else "train",
            extra=_truth(degraded.get(i, "none"), options.variant),
        )
        for i, label in labels.items()
    ]
    clips = carve_validation(clips, config.val_share, config.seed)
    return Dataset(
        "digits",
        clips,
        tuple("0123456789"),
        options=options.given(),
        reader=DigitsReader(config.seed, options.variant),
    )


def _degraded(strata: dict[str, str], seed: int) -> dict[str, str]:
    """Choose the degraded samples and the degraded modality of each, with the same share in every stratum."""
    visual = stratified_choice(strata, DEGRADED_SHARE, seed + 1)
    rest = {key: stratum for key, stratum in strata.items() if key not in visual}
    audio = stratified_choice(rest, DEGRADED_SHARE / (1 - DEGRADED_SHARE), seed + 2)
    return {**dict.fromkeys(visual, "visual"), **dict.fromkeys(audio, "audio")}


def _truth(degraded: str, variant: DigitsVariant | None) -> dict[str, str]:
    """Return the further columns of a sample, given what `degraded` says of it without a variant."""
    if variant is None:
        return {"degraded": degraded}
    spoilt = ["visual"] if variant != "late" else []  # every picture of `late` shows the digit
    if degraded == "audio":
        spoilt.append("audio")
    return {"degraded": "both" if len(spoilt) == 2 else (spoilt or ["none"])[0], "variant": variant}


def _frames(rng: np.random.Generator, scan: np.ndarray, config: DataConfig, degraded: bool) -> np.ndarray:
    """Return (T, H, W, 3) uint8 of a scan (8, 8) in [0, 1]."""
    from scipy import ndimage

    size, count = config.frame_size, config.stored_frames
    pose = rng.normal(0, 1, 3) + rng.normal(0, SHIVER, (count, 3))  # x, y, turn of each frame
    light = rng.uniform(*CONTRAST) * rng.uniform(0.9, 1.1, count)
    paper = rng.uniform(0.1, 0.3)
    tint = rng.normal(1, TINT, 3)
    bar_place, bar_axis = int(rng.integers(0, size)), int(rng.integers(0, 2))
    pixels = np.empty((count, size, size, 3))
    for t in range(count):
        turn = TURN * pose[t, 2]
        zoom = scan.shape[0] / (CARD * size)
        turned = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        middle = (size - 1) / 2 + SHIFT * size * pose[t, :2]
        offset = (scan.shape[0] - 1) / 2 - turned @ middle
        grey = np.clip(ndimage.affine_transform(scan, turned, offset, (size, size), order=3), 0, 1)
        if degraded:
            grey = ndimage.gaussian_filter(grey, DEGRADED_BLUR * size)
            _hide(grey, bar_place, bar_axis)
        pixels[t] = (paper + light[t] * grey)[..., None] * tint
    pixels += rng.normal(0, DEGRADED_NOISE if degraded else NOISE, pixels.shape)
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def _hide(grey: np.ndarray, position: int, axis: int) -> None:
    """Put an opaque bar over half of the frame, around `position` pixels along `axis`."""
    half = int(OCCLUSION * grey.shape[0] / 2)
    band = slice(max(0, position - half), position + half)
    grey[(band, slice(None)) if axis else (slice(None), band)] = 0.5


def _tone(rng: np.random.Generator, digit: int, config: DataConfig, degraded: bool) -> np.ndarray:
    """Return (n,) float32: the digit's tone pair in white noise."""
    n, rate = round(config.seconds * config.sample_rate), config.sample_rate
    length = min(n, round(rng.uniform(*TONE_SECONDS) * rate))
    onset = int(rng.integers(0, n - length + 1))
    row, column = next((r, keys.index(str(digit))) for r, keys in enumerate(KEYPAD) if str(digit) in keys)
    time = np.arange(length) / rate
    low, high = (
        np.sin(2 * np.pi * (hertz * time + rng.random())) for hertz in (ROWS_HZ[row], COLUMNS_HZ[column])
    )
    gain, twist = rng.uniform(*GAIN), 10 ** (rng.uniform(*TWIST_DB) / 20)
    snr = rng.uniform(*(DEGRADED_SNR_DB if degraded else SNR_DB))
    wave = rng.normal(0, gain * 10 ** (-snr / 20), n)
    wave[onset : onset + length] += gain * (low + twist * high) * np.hanning(length)
    return wave.astype(np.float32)


@cache
def _scans() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's scans (1797, 8, 8) in [0, 1] and their labels (1797,)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images / 16.0, bunch.target
