"""Writes digits.inc, the embedded digits, from the copy in the scikit-learn package.

Usage: python make_digits.py   (needs scikit-learn; last run with 1.9.1)
"""

from pathlib import Path

from sklearn.datasets import load_digits

HEADER = """\
// Written by make_digits.py; do not edit.
//
// The 8x8 handwritten digits: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine
// Learning Repository, 1998, https://doi.org/10.24432/C50P49, licensed under CC BY 4.0
// (https://creativecommons.org/licenses/by/4.0/). This is the test set (1797 images), with values from the copy
// that the scikit-learn package distributes (BSD 3-Clause, Copyright The scikit-learn developers).
// Changed: the values are re-coded as letters, 'A' for 0 to 'Q' for 16; the last character is the label.
"""

digits = load_digits()
lines = [
    '"' + "".join(chr(ord("A") + int(v)) for v in pixels) + str(label) + '",'
    for pixels, label in zip(digits.data, digits.target)
]
Path(__file__).with_name("digits.inc").write_text(HEADER + "\n".join(lines) + "\n")
