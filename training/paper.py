"""Numbers that our own are held against: the paper's, and measurements of others' programs.

The paper is Svoboda, Hradis, Barina and Zemcik, "Compression Artifacts Removal Using Convolutional
Neural Networks", WSCG 2016. Scores are PSNR and PSNR-B in dB and SSIM with a uniform 8x8 window,
by JPEG quality.
"""

from __future__ import annotations

Scores = tuple[float, float, float]

PAPER: dict[str, dict[str, dict[int, Scores]]] = {
    "LIVE1": {
        "distorted": {10: (27.77, 25.33, 0.791), 20: (30.07, 27.57, 0.868)},
        "spp": {10: (28.37, 27.77, 0.806), 20: (30.49, 29.22, 0.877)},
        "SA-DCT": {10: (28.65, 28.01, 0.809), 20: (30.81, 29.82, 0.878)},
        "AR-CNN": {10: (28.98, 28.70, 0.822), 20: (31.29, 30.76, 0.887)},
        "L4": {10: (29.08, 28.71, 0.824), 20: (31.42, 30.83, 0.890)},
        "L8": {20: (31.51, 30.92, 0.891)},
    },
    "BSDS500 val": {
        "distorted": {10: (27.58, 24.97, 0.769), 20: (29.72, 26.97, 0.852)},
        "spp": {10: (28.13, 27.49, 0.782), 20: (30.11, 28.68, 0.859)},
        "AR-CNN": {10: (28.74, 28.38, 0.796), 20: (30.80, 30.08, 0.868)},
        "L4": {10: (28.75, 28.29, 0.800), 20: (30.90, 30.13, 0.871)},
        "L8": {20: (30.99, 30.19, 0.872)},
    },
}
"""Tables 3 (LIVE1) and 4 (BSDS500 val), by data set and method."""

PAPER_OBJECTIVES: dict[str, Scores] = {
    "distorted": (27.58, 24.97, 0.769),
    "direct": (28.99, 28.66, 0.820),
    "edge": (28.69, 28.40, 0.813),
    "residual": (29.08, 28.71, 0.824),
}
"""Table 5, L4 on LIVE1 at quality 10; its first row is that of BSDS500 val in table 4."""

PAPER_SPEED = {"l4": (220.0, 140e3), "l8": (1052.0, 440e3)}
"""Milliseconds for a megapixel on a GeForce GTX 780, and FLOP per pixel (section 4)."""

MEASURED: dict[str, dict[str, dict[int, Scores]]] = {
    "LIVE1": {
        "SA-DCT, authors' program": {10: (28.62, 27.93, 0.8093), 20: (30.77, 29.74, 0.8781)},
        "AR-CNN, published weights": {10: (28.96, 28.68, 0.8217), 20: (31.29, 30.76, 0.8871)},
    },
    "BSDS500 val": {
        "SA-DCT, authors' program": {10: (28.35, 27.68, 0.7831), 20: (30.36, 29.22, 0.8580)},
        "AR-CNN, published weights": {10: (28.74, 28.38, 0.7963), 20: (30.82, 30.10, 0.8679)},
    },
}
"""Others' program and weights under the same protocol, measured once: neither may be shipped."""
