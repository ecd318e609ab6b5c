"""The hand-written gradient against automatic differentiation, and its causality."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (fcnef[offline])")

from offline.twin import recurrent  # noqa: E402
from offline.twin.recurrent import recur  # noqa: E402

N_STEPS, N_PEOPLE, N_SEGMENTS, N_CHANNELS, N_UNITS, RANK = 23, 3, 4, 5, 7, 2


def _draw(*shape, scale=1.0):
    return torch.from_numpy(scale * np.random.default_rng(sum(shape)).standard_normal(shape))


@pytest.fixture
def whole():
    x = _draw(N_STEPS, N_PEOPLE, N_SEGMENTS, N_CHANNELS)
    b = _draw(N_PEOPLE, N_UNITS, N_CHANNELS, scale=0.5).requires_grad_()
    w = _draw(N_PEOPLE, N_UNITS, N_UNITS, scale=0.6).requires_grad_()
    return x, b, w


@pytest.fixture
def low_rank(whole):
    x, b, _ = whole
    shared = _draw(N_UNITS, N_UNITS, scale=0.5).requires_grad_()
    left = _draw(N_UNITS, RANK, scale=0.7).requires_grad_()
    right = (_draw(RANK, N_UNITS, scale=0.7).T.contiguous()).requires_grad_()
    codes = _draw(N_PEOPLE, RANK).requires_grad_()
    return x, b, shared, left, right, codes


def plain(x, b, w):
    """The formula as it is written, differentiated step by step."""
    h, out = x.new_zeros(*x.shape[1:3], w.shape[1]), []
    for step in x:
        h = torch.tanh(h @ w.mT + step @ b.mT)
        out.append(h)
    return torch.stack(out)


def of_low_rank(x, b, shared, left, right, codes):
    return x, b, shared + (left * codes[:, None]) @ right.mT


def gradients(function, arguments):
    h = function(*arguments)
    weights = _draw(*h.shape)
    loss = (weights * h).sum() + (h**2).mean()
    return h, torch.autograd.grad(loss, arguments[1:])


def relative(found, expected):
    return ((found - expected).detach().abs().max() / expected.detach().abs().max()).item()


@pytest.fixture(params=["compiled", "torch"])
def steps(request, monkeypatch):
    """Both ways to take the steps, on the processor."""
    monkeypatch.setattr(recurrent, "_compiled", lambda values: request.param == "compiled")


@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize("form", ["whole", "low_rank"])
def test_states_and_every_gradient_equal_automatic_differentiation(form, request):
    arguments = request.getfixturevalue(form)
    weights = of_low_rank if form == "low_rank" else lambda *whole: whole
    h, found = gradients(lambda *a: recur(*weights(*a)), arguments)
    expected_h, expected = gradients(lambda *a: plain(*weights(*a)), arguments)
    assert h.dtype == torch.float64
    assert relative(h, expected_h) <= 1e-12
    assert len(found) == len(expected) == len(arguments) - 1
    for gradient, wanted in zip(found, expected, strict=True):
        assert relative(gradient, wanted) <= 1e-8


@pytest.mark.usefixtures("steps")
def test_the_gradient_is_that_of_finite_differences(whole):
    x, b, w = (part.detach() for part in whole)
    small = x[:5, :2, :2], b[:2].clone().requires_grad_(), w[:2].clone().requires_grad_()
    assert torch.autograd.gradcheck(recur, small, eps=1e-6, atol=1e-7)


def test_later_input_never_changes_earlier_states(whole):
    x, b, w = whole
    changed = x.clone()
    changed[10:] += 1.0
    before, after = recur(x, b, w), recur(changed, b, w)
    assert torch.equal(before[:10], after[:10])
    assert not torch.equal(before[10:], after[10:])


def test_people_and_segments_do_not_meet(whole):
    x, b, w = whole
    changed = x.clone()
    changed[:, 1, 2] += 1.0
    same = recur(changed, b, w) == recur(x, b, w)
    assert same[:, [0, 2]].all()
    assert same[:, 1, [0, 1, 3]].all()
    assert not same[:, 1, 2].all()


@pytest.mark.usefixtures("steps")
def test_float32_stays_near_float64(whole):
    h, found = gradients(recur, whole)
    single = [part.detach().float() for part in whole]
    for part in single[1:]:
        part.requires_grad_()
    h32 = recur(*single)
    loss = (_draw(*h.shape).float() * h32).sum() + (h32**2).mean()
    for ours, wanted in zip(torch.autograd.grad(loss, single[1:]), found, strict=True):
        assert relative(ours, wanted) < 1e-4


def test_importing_the_twin_does_not_import_torch():
    code = (
        "import sys, offline.twin.recurrent, offline.twin.synthetic;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
