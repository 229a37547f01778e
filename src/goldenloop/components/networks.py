"""Networks of rectified linear layers, trained with PyTorch and kept as scikit-learn's own network of the same weights."""

from __future__ import annotations

import io
import itertools
import warnings

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import Json, JsonObject
from goldenloop.core.signatures import Task

_HOLDOUT_SHARE = 5  # the last fifth of the rows says when to stop
_WIDEST = 4_096
_DEEPEST = 8
_KNOWN = "They are layers, epochs, patience, batch, rate, decay, dropout and seed."


class NetworkSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`layers` are the widths of the hidden layers. Training stops after `epochs`, or `patience` epochs without a better loss on the
    held-out rows; the weights of the best epoch are kept.
    """

    layers: tuple[int, ...] = (64, 32)
    epochs: int = 60
    patience: int = 8
    batch: int = 128
    rate: float = 1e-3  # of Adam
    decay: float = 1e-4  # of the weights
    dropout: float = 0.0
    seed: int = 0

    def check(self) -> None:
        """Raises InvalidSpecError for what no network can be trained with."""
        wrong = {
            "layers": not 1 <= len(self.layers) <= _DEEPEST or not all(1 <= width <= _WIDEST for width in self.layers),
            "epochs": self.epochs < 1,
            "patience": self.patience < 1,
            "batch": self.batch < 1,
            "rate": not self.rate > 0.0,
            "decay": not self.decay >= 0.0,
            "dropout": not 0.0 <= self.dropout < 1.0,
        }
        for name, is_wrong in wrong.items():
            if is_wrong:
                raise InvalidSpecError(
                    f"{getattr(self, name)!r} cannot be",
                    where=name,
                    mend=f"Give 1 to {_DEEPEST} layers of 1 to {_WIDEST}, positive numbers, a dropout below 1.",
                )


def network_settings(given: JsonObject) -> NetworkSettings:
    """Settings by name. Raises InvalidSpecError for a name or a value that is none."""
    try:
        settings = msgspec.convert(_whole(given), NetworkSettings)
    except msgspec.ValidationError as error:
        raise InvalidSpecError(f"these are no settings of a network: {error}", where="settings", mend=_KNOWN) from error
    settings.check()
    return settings


def _whole(value: Json) -> Json:
    """Whole numbers as integers: some of KFP's runners make 60.0 of 60. Where a float is asked for, an integer is one."""
    if isinstance(value, dict):
        return {name: _whole(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def train_network(
    rows: npt.NDArray[np.float64], labels: npt.NDArray[np.generic], task: Task, settings: NetworkSettings
) -> tuple[MLPClassifier | MLPRegressor, bytes]:
    """Train; return scikit-learn's form and the bytes of PyTorch's state. Uses a GPU where PyTorch finds one.

    The same rows and settings give the same weights on the same processor. Raises InvalidSpecError for missing values.
    """
    import torch
    from torch import nn

    if not np.isfinite(rows).all():
        raise InvalidSpecError(
            "a network cannot learn from missing values", where="transformer", mend="Impute them: impute=median."
        )
    torch.manual_seed(settings.seed)
    kept, targets, middle, spread = _shell(rows, labels, task, settings)
    widths = [rows.shape[1], *settings.layers, kept.n_outputs_]
    modules: list[nn.Module] = []
    for entering, leaving in itertools.pairwise(widths):
        modules += [nn.Linear(entering, leaving), nn.ReLU(), nn.Dropout(settings.dropout)]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = nn.Sequential(*modules[:-2]).to(device)
    given = torch.tensor(rows, dtype=torch.float32, device=device)
    wanted = torch.tensor(targets, device=device)
    loss_of = (
        nn.MSELoss() if task == "regression" else nn.BCEWithLogitsLoss() if wanted.ndim == 2 else nn.CrossEntropyLoss()
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.rate, weight_decay=settings.decay)
    held = max(1, len(rows) // _HOLDOUT_SHARE)
    learned = len(rows) - held
    best, since, state = float("inf"), 0, network.state_dict()
    for _ in range(settings.epochs):
        network.train()
        order = torch.randperm(learned)
        for start in range(0, learned, settings.batch):
            chosen = order[start : start + settings.batch]
            optimizer.zero_grad()
            loss_of(network(given[chosen]), wanted[chosen]).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            loss = float(loss_of(network(given[learned:]), wanted[learned:]))
        since += 1
        if loss < best:
            best, since = loss, 0
            state = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
        if since >= settings.patience:
            break
    weights = [value.double().numpy() for value in state.values()]
    kept.coefs_ = [weight.T.copy() for weight in weights[0::2]]
    kept.intercepts_ = [weight.copy() for weight in weights[1::2]]
    if task == "regression":  # it learned the standardised label; the last layer puts it back
        kept.coefs_[-1] = kept.coefs_[-1] * spread
        kept.intercepts_[-1] = kept.intercepts_[-1] * spread + middle
    stream = io.BytesIO()
    torch.save(state, stream)
    return kept, stream.getvalue()


def _shell(
    rows: npt.NDArray[np.float64], labels: npt.NDArray[np.generic], task: Task, settings: NetworkSettings
) -> tuple[MLPClassifier | MLPRegressor, npt.NDArray[np.generic], float, float]:
    """Scikit-learn's network, initialised by one step of its own and about to get other weights; the targets that go with its
    output; and the label's middle and spread, which a regression learns without.
    """
    kind = MLPRegressor if task == "regression" else MLPClassifier
    shell = kind(hidden_layer_sizes=settings.layers, max_iter=1, random_state=settings.seed)
    few = rows[: min(len(rows), 200)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if task == "regression":
            numbers = labels.astype(np.float64)
            shell.partial_fit(few, numbers[: len(few)])
            middle, spread = float(numbers.mean()), float(numbers.std()) or 1.0
            return shell, ((numbers - middle) / spread).astype(np.float32)[:, None], middle, spread
        classes = np.unique(labels)
        shell.partial_fit(few, labels[: len(few)], classes=classes)
    places = np.searchsorted(classes, labels)
    if len(classes) == 2:
        return shell, places.astype(np.float32)[:, None], 0.0, 1.0
    return shell, places.astype(np.int64), 0.0, 1.0
