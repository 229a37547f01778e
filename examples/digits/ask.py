"""One picture asked for in three ways: `python ask.py [http://127.0.0.1:8000]`."""

from __future__ import annotations

import json
import sys
import urllib.request

import numpy as np
from sklearn.datasets import load_digits


def main(server: str) -> None:
    """Ask, and print the answers."""
    pictures, digits = load_digits(return_X_y=True)
    picture = pictures[-1].reshape(1, 8, 8).astype(np.float32)
    print(f"it is a {digits[-1]}")
    v1 = json.dumps({"instances": picture.tolist()}).encode()
    print("V1:", post(f"{server}/v1/models/digits:predict", v1))
    tensor = {"name": "pixels", "datatype": "FP32", "shape": [1, 8, 8]}
    asked = [{"name": "digit"}]
    v2 = json.dumps({"inputs": [{**tensor, "data": picture.reshape(-1).tolist()}], "outputs": asked}).encode()
    print("V2:", post(f"{server}/v2/models/digits/infer", v2))
    raw = picture.tobytes()
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}], "outputs": asked}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    print("V2 in binary:", post(f"{server}/v2/models/digits/infer", head + raw, headers))


def post(address: str, body: bytes, headers: dict[str, str] | None = None) -> str:
    """The answer to a POST."""
    with urllib.request.urlopen(urllib.request.Request(address, body, headers or {})) as answer:
        return answer.read().decode()


if __name__ == "__main__":
    main(*sys.argv[1:] or ["http://127.0.0.1:8000"])
