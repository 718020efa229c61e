"""What scikit-learn makes of the model of zoo/gp.cpp on the same data, for gp_parameters() there:

    pip install scikit-learn
    python tests/peers/gaussian_process.py
"""

import re
import warnings
from pathlib import Path

import numpy as np
import sklearn
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ExpSineSquared, RationalQuadratic, WhiteKernel

warnings.simplefilter("ignore")
text = (Path(__file__).parents[2] / "datasets/co2.inc").read_text()
months = np.array([[float(v) for v in m] for m in re.findall(r"\{(\d+), (\d+), ([\d.]+)\}", text)])
t, y = months[:, 0] + (months[:, 1] - 1) / 12, months[:, 2] - months[:, 2].mean()

kernel = (
    66.0**2 * RBF(67.0)
    + 2.4**2 * RBF(90.0) * ExpSineSquared(1.3, 1.0, periodicity_bounds="fixed")
    + 0.66**2 * RationalQuadratic(length_scale=1.2, alpha=0.78)
    + 0.18**2 * RBF(0.134)
    + WhiteKernel(0.19**2)
)
print("scikit-learn", sklearn.__version__, "with", len(t), "months")
book = GaussianProcessRegressor(kernel, optimizer=None, alpha=0).fit(t[:, None], y)
print("log likelihood at the book's numbers: %.9f" % book.log_marginal_likelihood_value_)
fitted = GaussianProcessRegressor(kernel, alpha=0).fit(t[:, None], y)
print("fitted: %.9f" % fitted.log_marginal_likelihood_value_)
print(fitted.kernel_)
for name, theta in zip([h.name for h in fitted.kernel_.hyperparameters if not h.fixed], fitted.kernel_.theta):
    print("%-40s %.6g" % (name, np.exp(theta)))
