"""From a media file to frames and a spectrogram."""
