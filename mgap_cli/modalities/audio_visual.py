"""The built-in pair of modalities, which `prepare` reads from media files."""

from mgap_cli.modalities.modality import Modality

AUDIO = Modality("audio", "spectrogram", 1)
VISUAL = Modality("visual", "frames", 3)
AUDIO_VISUAL = (AUDIO, VISUAL)
