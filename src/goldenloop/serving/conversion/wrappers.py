"""Teaching the converter of scikit-learn's models the boosters that have scikit-learn's interface."""

from __future__ import annotations

import sys


def register_boosters() -> bool:
    """Teach it the wrappers whose packages are in use; return whether there are any."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    if "xgboost" in sys.modules:
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
        from xgboost import XGBClassifier, XGBRegressor

        update_registered_converter(
            XGBClassifier, "GoldenloopXGBClassifier", calculate_linear_classifier_output_shapes, convert_xgboost,
            options=options,
        )  # fmt: skip
        update_registered_converter(
            XGBRegressor, "GoldenloopXGBRegressor", calculate_linear_regressor_output_shapes, convert_xgboost
        )
    if "lightgbm" in sys.modules:
        from lightgbm import LGBMClassifier, LGBMRegressor
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

        update_registered_converter(
            LGBMClassifier, "GoldenloopLGBMClassifier", calculate_linear_classifier_output_shapes, convert_lightgbm,
            options=options,
        )  # fmt: skip
        update_registered_converter(
            LGBMRegressor, "GoldenloopLGBMRegressor", calculate_linear_regressor_output_shapes, convert_lightgbm,
            options={"split": None},
        )  # fmt: skip
    return "xgboost" in sys.modules or "lightgbm" in sys.modules
