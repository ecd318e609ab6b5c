"""Gradients in parts of people equal those of all at once; the published form has its size."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (fcnef[offline])")

from offline.twin import model  # noqa: E402
from offline.twin.model import Settings, Shape, gradients, initial, losses, network  # noqa: E402
from tests.offline.twin.tasks_of import small  # noqa: E402


@pytest.mark.parametrize("form", ["low_rank", "whole"])
@pytest.mark.parametrize("bold", [False, True])
def test_gradients_in_parts_are_those_of_everybody_at_once(form, bold, monkeypatch):
    monkeypatch.setattr(model, "PART_BYTES", 1)  # two people a part
    _, examples = small(n_people=6, bold=bold)
    examples = examples.of(np.arange(5))
    settings = Settings(units=5, rank=3, hidden=4, form=form)
    shape = Shape.of(examples, 7)
    rng = np.random.default_rng(0)
    parameters = {
        name: values.double() for name, values in initial(shape, settings, examples, rng).items()
    }
    who = torch.from_numpy(rng.standard_normal((5, 3 if form == "low_rank" else 7)))
    scale = torch.from_numpy(rng.uniform(0.5, 2.0, 5))
    total, found = gradients(parameters, shape, settings, examples, who, scale)
    for values in (*parameters.values(), who):
        values.requires_grad_()
    parts = losses(parameters, shape, settings, examples, who)
    assert set(parts) == ({"rt", "choice", "bold"} if bold else {"rt", "choice"})
    loss = sum((part * scale).sum() for part in parts.values())
    wanted = torch.autograd.grad(loss, [*parameters.values(), who])
    assert total == pytest.approx(loss.item(), rel=1e-12)
    for name, gradient in zip([*parameters, "who"], wanted, strict=True):
        assert torch.allclose(found[name], gradient, rtol=1e-8, atol=1e-10), name


def test_the_published_form_has_its_weights():
    """9-400-23 with one bias a unit: 173,623 less the second bias of 400 units."""
    shape = Shape(channels=10, actions=3, regions=20, scores=227)
    settings = Settings(units=400, form="whole")
    _, examples = small(n_people=6, bold=True)
    parameters = initial(shape, settings, examples, np.random.default_rng(0))
    assert parameters["last"].shape == (173_623 - 400, 200)
    b, w, heads = network(parameters, shape, settings, torch.zeros(2, 227))
    assert (b.shape, w.shape) == ((2, 400, 10), (2, 400, 400))
    assert (heads["choice"].shape, heads["bold"].shape) == ((2, 3, 401), (2, 20, 401))


def test_people_of_the_same_code_are_the_same_and_others_differ():
    _, examples = small(n_people=6)
    settings = Settings(units=5, rank=3)
    shape = Shape.of(examples, 7)
    parameters = initial(shape, settings, examples, np.random.default_rng(1))
    codes = torch.tensor([[0.0, 0.0, 0.0], [0.5, -1.0, 2.0], [0.5, -1.0, 2.0]])
    b, w, _ = network(parameters, shape, settings, codes)
    assert torch.equal(w[0], parameters["recurrent"])
    assert torch.equal(b[0], parameters["input"])
    assert torch.equal(w[1], w[2])
    assert torch.linalg.matrix_rank(w[1] - w[0]) == 3


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    monkeypatch.setattr(model, "PART_BYTES", 1)
    _, examples = small(n_people=6)
    settings = Settings(units=5, rank=3)
    shape = Shape.of(examples, 7)
    parameters = initial(shape, settings, examples, np.random.default_rng(2))
    who = torch.from_numpy(np.random.default_rng(3).standard_normal((6, 3)).astype(np.float32))
    arguments = parameters, shape, settings, examples, who, torch.ones(6)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(gradients(*arguments))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    for total, found in results[1:]:
        assert total == results[0][0]
        assert all(torch.equal(found[name], results[0][1][name]) for name in found)
