"""A converted graph's weights lie in a file of their own, which a second conversion replaces."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from agent.weights.convert import save_beside

MATRIX = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)


def model() -> onnx.ModelProto:
    given, told = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 64]) for name in ("x", "y"))
    weights = [numpy_helper.from_array(MATRIX, "w")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [given], [told], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_weights_are_saved_beside_and_again_over_the_old_ones(tmp_path: Path) -> None:
    path, weights = tmp_path / "model.onnx", tmp_path / "model.weights"
    for _ in range(2):
        save_beside(model(), path, weights)
        assert path.stat().st_size < 1000
        assert weights.stat().st_size == MATRIX.nbytes
        assert weights.stat().st_mode == path.stat().st_mode
    x = np.ones((1, 64), np.float32)
    (y,) = onnxruntime.InferenceSession(str(path)).run(None, {"x": x})
    assert np.array_equal(y, x @ MATRIX)
