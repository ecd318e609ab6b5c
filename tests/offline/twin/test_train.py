"""Training: nothing of the people left out gets in, a killed fit goes on with the same bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (fcnef[offline])")

from offline.errors import TwinError  # noqa: E402
from offline.twin import train  # noqa: E402
from offline.twin.basis import fit_basis  # noqa: E402
from offline.twin.descent import Adam, falling_rate  # noqa: E402
from offline.twin.determinism import deterministic  # noqa: E402
from offline.twin.model import Settings  # noqa: E402
from offline.twin.train import deal_people, fit_member, fit_members  # noqa: E402
from tests.offline.twin.tasks_of import small  # noqa: E402

SETTINGS = Settings(
    units=6, rank=3, epochs=4, segments=2, batch=12, check_every=2, folds=3, hidden=5
)


@pytest.fixture(scope="module")
def work():
    people, examples = small(n_people=24)
    folds = deal_people(people.people["site"], 24, 3, 0)
    return people.edges, examples, folds


def fitted(work, settings=SETTINGS, fold=0, seed=0, **options):
    edges, examples, folds = work
    with deterministic(1):
        basis = fit_basis(edges[folds != fold])
        return fit_member(edges, examples, folds, settings, fold, seed, basis, **options)


def same(one, other):
    return (
        all(torch.equal(one.parameters[k], other.parameters[k]) for k in one.parameters)
        and one.curve == other.curve
        and (one.map is None or _same_map(one.map, other.map))
    )


def _same_map(one, other):
    return one.weights.keys() == other.weights.keys() and all(
        np.array_equal(one.weights[term], other.weights[term]) for term in one.weights
    )


class Killed(Exception):
    pass


def killer(after):
    def watch(fold, seed, line):
        if line["epoch"] == after:
            raise Killed

    return watch


@pytest.mark.parametrize("form", ["low_rank", "whole"])
def test_a_fit_that_was_killed_goes_on_with_the_same_bits(work, tmp_path, form):
    settings = replace(SETTINGS, form=form, segments=1, epochs=5)
    whole = fitted(work, settings)
    for after in (1.0, 3.0):
        with pytest.raises(Killed):
            fitted(work, settings, checkpoint=tmp_path / "run", watch=killer(after))
    resumed = fitted(work, settings, checkpoint=tmp_path / "run")
    assert same(resumed, whole)
    again = []
    fitted(work, settings, checkpoint=tmp_path / "run", watch=lambda *line: again.append(line))
    assert again == []  # all epochs were done


def test_another_seed_is_another_member(work):
    assert not same(fitted(work), fitted(work, seed=1))


def test_people_left_out_do_not_touch_a_member(work):
    edges, examples, folds = work
    out = folds == 0
    changed = edges.copy()
    changed[out] += 1.0
    log_rt = examples.log_rt.copy()
    log_rt[out] -= 0.5
    choice = np.where(out[:, None, None], -1, examples.choice)
    other = (changed, replace(examples, log_rt=log_rt, choice=choice), folds)
    assert same(fitted(work), fitted(other))
    within = edges.copy()
    within[np.flatnonzero(~out)[0]] += 0.1
    assert not same(fitted(work), fitted((within, examples, folds)))


def test_a_checkpoint_of_other_work_is_refused(work, tmp_path):
    fitted(work, checkpoint=tmp_path)
    with pytest.raises(TwinError, match="expected the same people, trials, folds and settings"):
        fitted(work, replace(SETTINGS, rate=0.02), checkpoint=tmp_path)
    kept = next(tmp_path.glob("member-*.safetensors"))
    kept.write_bytes(kept.read_bytes()[:200])
    with pytest.raises(TwinError, match="expected a whole file"):
        fitted(work, checkpoint=tmp_path)


def test_training_stops_when_kept_people_are_told_no_better(work, monkeypatch):
    def look(self, line):
        line["validation"] = float(self.epoch)
        if self.epoch == 1:
            self.best = {name: values.clone() for name, values in self.parameters.items()}
            self.best_loss = 1.0
        else:
            self.since_best += 1

    monkeypatch.setattr(train._Run, "look", look)
    settings = replace(SETTINGS, epochs=30, check_every=1, patience=3)
    assert len(fitted(work, settings).curve) == 4


def test_training_lowers_the_loss_of_everybody(work):
    curve = fitted(work, replace(SETTINGS, epochs=15, check_every=5)).curve
    assert curve[-1]["training"] < curve[0]["training"] - 0.1
    assert curve[14]["validation"] < curve[4]["validation"]


def test_bold_is_trained_with_where_there_is_some():
    people, examples = small(n_people=24, bold=True)
    folds = deal_people(None, 24, 3, 0)
    member = fitted((people.edges, examples, folds), replace(SETTINGS, epochs=2))
    assert member.parameters["bold"].shape == (2, SETTINGS.units + 1)
    assert np.isfinite([line["training"] for line in member.curve]).all()


def test_every_fold_and_seed_has_a_member_and_sites_are_dealt_evenly(work):
    edges, examples, _ = work
    sites = np.array(["a", "b"])[np.arange(24) % 2]
    folds = deal_people(sites, 24, 3, 1)
    for site in ("a", "b"):
        assert np.bincount(folds[sites == site]).tolist() == [4, 4, 4]
    members = fit_members(edges, examples, folds, replace(SETTINGS, epochs=1, seeds=2))
    assert [(m.fold, m.seed) for m in members] == [(f, s) for s in range(2) for f in range(3)]
    with pytest.raises(TwinError, match="one row of edges for each of 24 people, found 23"):
        fit_members(edges[1:], examples, folds, SETTINGS)


def test_torch_is_left_as_it_was():
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with deterministic(1):
        assert torch.are_deterministic_algorithms_enabled()
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


@pytest.mark.parametrize(
    "wrong", [{"units": 0}, {"folds": 1}, {"validation": 1.0}, {"form": "dense"}, {"patience": 0}]
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(TwinError, match="expected"):
        replace(SETTINGS, **wrong)


def test_adam_is_that_of_torch():
    rng = np.random.default_rng(0)
    start = torch.from_numpy(rng.standard_normal(5))
    ours, theirs = {"w": start.clone()}, start.clone().requires_grad_()
    adam = Adam(ours)
    oracle = torch.optim.Adam([theirs], lr=0.05, betas=(0.9, 0.99), eps=1e-8)
    for _ in range(20):
        gradient = torch.from_numpy(0.1 * rng.standard_normal(5))
        adam.step(ours, {"w": gradient}, 0.05)
        theirs.grad = gradient
        oracle.step()
    assert torch.allclose(ours["w"], theirs.detach(), atol=1e-12)


def test_rows_of_a_table_move_alone():
    table = torch.zeros(4, 2)
    adam = Adam({"codes": table})
    adam.step_rows("codes", table, torch.tensor([2, 0]), torch.ones(2, 2), 0.1, epoch=1)
    assert torch.allclose(table[[0, 2]], torch.tensor(-0.1))
    assert torch.equal(table[[1, 3]], torch.zeros(2, 2))


def test_the_rate_falls_to_a_tenth():
    rates = [falling_rate(0.01, epoch, 11) for epoch in range(11)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(0.01)
    assert rates[-1] == pytest.approx(0.001)
