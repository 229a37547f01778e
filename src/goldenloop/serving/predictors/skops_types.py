"""The types in skops files that this house trusts besides what skops trusts itself: data holders, which run no code of the file's.

The list is ours and is never read from a file. It covers what scikit-learn's own classifiers, regressors and transformers keep inside.
"""

from __future__ import annotations

from collections.abc import Iterator


def _names() -> Iterator[str]:
    yield from ("numpy.dtype", "numpy.mean", "scipy.interpolate._bsplines.BSpline")
    for kind in ("Classifier", "Regressor"):
        yield from (f"lightgbm.sklearn.LGBM{kind}", f"xgboost.sklearn.XGB{kind}")
    yield from ("lightgbm.basic.Booster", "xgboost.core.Booster")
    yield from ("sklearn.tree._tree.Tree", "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor")
    yield from ("sklearn.neighbors._kd_tree.KDTree", "sklearn.neighbors._ball_tree.BallTree")
    for metric in ("Chebyshev", "Euclidean", "Hamming", "Manhattan", "Minkowski"):
        yield f"sklearn.metrics._dist_metrics.{metric}Distance64"
    for part in ("_CalibratedClassifier", "_SigmoidCalibration", "_TemperatureScaling"):
        yield f"sklearn.calibration.{part}"
    for optimizer in ("AdamOptimizer", "SGDOptimizer"):
        yield f"sklearn.neural_network._stochastic_optimizers.{optimizer}"
    for loss in ("Gamma", "Poisson", "Squared", "Tweedie", "TweedieLossIdentity"):
        yield f"sklearn._loss.loss.Half{loss}{'' if loss.endswith('Identity') else 'Error' if loss == 'Squared' else 'Loss'}"
    for test in ("chi2", "f_classif", "f_regression"):
        yield f"sklearn.feature_selection._univariate_selection.{test}"
    yield "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace"
    for kernel in (
        "ConstantKernel",
        "DotProduct",
        "Matern",
        "Product",
        "RBF",
        "RationalQuadratic",
        "Sum",
        "WhiteKernel",
    ):
        yield f"sklearn.gaussian_process.kernels.{kernel}"


TRUSTED_TYPES = frozenset(_names())
