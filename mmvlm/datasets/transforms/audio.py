"""Kaldi's log-mel filter bank in numpy."""

from __future__ import annotations

import functools

import numpy as np

#: Smallest energy before the logarithm: float32's epsilon, as Kaldi has it.
_FLOOR = np.float64(np.finfo(np.float32).eps)
_PREEMPHASIS = 0.97
_LOW_HZ = 20.0


def kaldi_fbank(
    samples: np.ndarray,
    sample_rate: int = 16000,
    num_mel_bins: int = 128,
    *,
    frame_ms: float = 25.0,
    shift_ms: float = 10.0,
) -> np.ndarray:
    """Return log-mel energies as ``torchaudio.compliance.kaldi.fbank`` gives them.

    Without dither, Hann window, HTK-compatible, mean of each frame removed,
    pre-emphasis 0.97, whole frames only. Checked against transformers' AST
    features.

    Args:
        samples (np.ndarray): sound.
        sample_rate (int): samples per second.
        num_mel_bins (int): bands.
        frame_ms (float): length of a frame in milliseconds.
        shift_ms (float): distance of frames in milliseconds.

    Shape:
        - ``samples``: (S,)
        - output: (frames, num_mel_bins), float32

    Raises:
        ValueError: when the sound is shorter than a frame.
    """
    length = int(sample_rate * frame_ms / 1000)
    shift = int(sample_rate * shift_ms / 1000)
    if len(samples) < length:
        raise ValueError(
            f"audio: {len(samples)} samples, a frame of {frame_ms} ms has {length}."
        )
    windows = np.lib.stride_tricks.sliding_window_view(samples, length)[::shift]
    frames = windows.astype(np.float64)
    frames -= frames.mean(1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], 1)
    frames = (frames - _PREEMPHASIS * before) * np.hanning(length)
    size = 1 << (length - 1).bit_length()
    power = np.abs(np.fft.rfft(frames, size)) ** 2
    filters = _mel_filters(size, sample_rate, num_mel_bins)
    return np.log(np.maximum(power @ filters, _FLOOR)).astype(np.float32)


def _mel(hertz: np.ndarray | float) -> np.ndarray:
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)


@functools.lru_cache(maxsize=8)
def _mel_filters(size: int, sample_rate: int, bins: int) -> np.ndarray:
    """Triangles that are straight in mel: (size / 2 + 1, bins)."""
    edges = np.linspace(_mel(_LOW_HZ), _mel(sample_rate / 2), bins + 2)
    place = _mel(np.arange(size // 2 + 1) * sample_rate / size)[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rise = (place - left) / (centre - left)
    fall = (right - place) / (right - centre)
    return np.maximum(0, np.minimum(rise, fall))
