"""``python -m numgraph.data.make_digits`` writes digits.npz from scikit-learn's copy of the data, and nothing
else needs scikit-learn.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from numgraph.runtime import atomic


def main() -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = digits.data.astype(np.uint8)
    if not np.array_equal(pixels, digits.data) or pixels.max() != 16:
        raise SystemExit("scikit-learn's digits are no longer whole numbers from 0 to 16")
    target = Path(__file__).with_name("digits.npz")
    atomic.write(
        target, lambda file: np.savez_compressed(file, pixels=pixels, labels=digits.target.astype(np.uint8))
    )
    print(f"{target}: {target.stat().st_size} bytes, {len(pixels)} images")


if __name__ == "__main__":
    main()
