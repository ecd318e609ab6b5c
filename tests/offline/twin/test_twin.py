"""The ensemble: who may be told of whom, zero-shot as k-shot's start, files, and bad input."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (fcnef[offline])")

from safetensors import safe_open  # noqa: E402

from offline.errors import AtlasError, ScaleError, TwinError  # noqa: E402
from offline.model_file import read_arrays, write_arrays  # noqa: E402
from offline.twin.files import load_twin, require_real, save_twin  # noqa: E402
from offline.twin.model import Settings  # noqa: E402
from offline.twin.shot import infer_codes, readings  # noqa: E402
from offline.twin.twin import Twin  # noqa: E402
from tests.offline.twin.tasks_of import small  # noqa: E402

SETTINGS = Settings(units=8, rank=3, epochs=12, segments=3, batch=12, folds=3, hidden=5)


@pytest.fixture(scope="module")
def training():
    return small(n_people=30)


@pytest.fixture(scope="module")
def twin(training):
    people, examples = training
    return Twin.fit(people.edges, examples, people.atlas, "synthetic", SETTINGS)


@pytest.fixture(scope="module")
def new():
    return small(n_people=10, seed=5)


def test_people_of_the_training_data_are_told_by_members_without_them_alone(twin, training):
    people, examples = training
    told = twin.simulate(people.edges, examples)
    assert np.array_equal(np.isfinite(told.mean_rt_s).sum(axis=0), np.ones(30))
    for member, row in zip(twin.members, told.mean_rt_s, strict=True):
        assert np.array_equal(np.isfinite(row), twin.folds == member.fold)
    again = [f"sub-{name}" for name in examples.people]
    assert twin.may_tell(twin.members[0], again).sum() == 10


def test_everybody_new_is_told_by_all_members(twin, new):
    people, examples = new
    names = tuple(f"new{k}" for k in range(10))
    told = twin.simulate(people.edges, replace(examples, people=names))
    assert np.isfinite(told.mean_rt_s).all()
    assert np.allclose(told.probabilities[examples.onset >= 0].sum(-1), 1.0)
    assert np.isnan(told.probabilities[examples.onset < 0]).all()
    assert np.all((told.rt_s > 0.3) & (told.rt_s < 2.0))
    both = told.condition_rt_s.mean(axis=2)
    assert np.allclose(both, told.mean_rt_s, rtol=1e-6)  # as many faces as shapes


def test_responses_are_not_looked_at(twin, new):
    people, examples = new
    blank = replace(
        examples,
        log_rt=np.full_like(examples.log_rt, np.nan),
        choice=np.full_like(examples.choice, -1),
        response_step=np.full_like(examples.response_step, -1),
    )
    one, other = (twin.simulate(people.edges, task).mean_rt_s for task in (examples, blank))
    assert np.array_equal(one, other, equal_nan=True)


def test_without_trials_k_shot_is_zero_shot_and_trials_bring_it_nearer(twin, new):
    people, examples = new
    names = tuple(f"new{k}" for k in range(10))
    task = replace(examples, people=names)
    own = np.nanmean(np.exp(examples.log_rt), axis=(1, 2))
    zero = twin.simulate(people.edges, task).rt_s
    none = twin.simulate(people.edges, task, task.first(0)).rt_s
    assert np.allclose(none, zero, rtol=1e-5)
    errors = [
        np.mean((twin.simulate(people.edges, task, task.first(k)).rt_s - own) ** 2)
        for k in (0, 10, 60)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.5 * errors[0]


def test_fisher_scoring_ends_where_the_gradient_of_the_posterior_is_zero(twin, new):
    """The posterior is climbed on by a search that knows nothing of derivatives."""
    _, examples = new
    examples = examples.of(np.arange(2)).first(30)
    member = twin.members[0]
    mean, covariance = np.zeros((2, 3)), np.diag([0.5, 1.0, 2.0])
    arguments = member.parameters, member.shape, member.settings, examples
    codes, spread = infer_codes(*arguments, mean, covariance, n_steps=12)

    def posterior(who):
        log_mean, sd, p = readings(*arguments, who)
        known = np.isfinite(examples.log_rt)
        z = (np.where(known, examples.log_rt, 0.0) - log_mean) / sd
        total = np.where(known, -0.5 * z**2 - np.log(sd), 0.0).sum(axis=(1, 2))
        chosen = examples.choice[..., None] == np.arange(p.shape[-1])
        total += np.log(np.where(chosen, p, 1.0)).sum(axis=(1, 2, 3))
        return total - 0.5 * np.einsum("pi,ij,pj->p", who, np.linalg.inv(covariance), who)

    _is_highest(posterior, codes, mean, spread)


def test_responses_of_unknown_choice_move_codes_by_what_they_may_have_been(twin, new):
    """As above, choices not known: what tells is that somebody answered, or did not."""
    _, examples = new
    examples = examples.of(np.arange(2)).first(30)
    answered = examples.response_step >= 0
    examples = replace(
        examples,
        choice=np.where(answered, -1, examples.choice),
        answer=np.full_like(examples.answer, -1),
        log_rt=np.full_like(examples.log_rt, np.nan),
    )
    member = twin.members[0]
    mean, covariance = np.zeros((2, 3)), np.diag([0.5, 1.0, 2.0])
    arguments = member.parameters, member.shape, member.settings, examples
    codes, spread = infer_codes(*arguments, mean, covariance, n_steps=12)

    def posterior(who):
        p = readings(*arguments, who)[2]
        total = np.log(np.where(answered, p[..., :-1].sum(axis=-1), 1.0)).sum(axis=(1, 2))
        missed = examples.choice == examples.n_actions
        total += np.log(np.where(missed, p[..., -1], 1.0)).sum(axis=(1, 2))
        return total - 0.5 * np.einsum("pi,ij,pj->p", who, np.linalg.inv(covariance), who)

    _is_highest(posterior, codes, mean, spread)


def _is_highest(posterior, codes, mean, spread):
    best = posterior(codes)
    assert np.all(best > posterior(mean))
    for k in range(3):
        for sign in (-1.0, 1.0):
            moved = codes.copy()
            moved[:, k] += sign * np.sqrt(spread[:, k, k])
            assert np.all(posterior(moved) < best + 0.02)


def test_a_twin_comes_back_from_its_file_with_the_same_bits(twin, new, tmp_path):
    people, examples = new
    path = save_twin(twin, tmp_path / "twin")
    back = load_twin(path)
    assert path.suffix == ".safetensors"
    assert (back.atlas, back.provenance, back.settings) == (twin.atlas, "synthetic", SETTINGS)
    task = replace(examples, people=tuple(f"new{k}" for k in range(10)))
    one, other = (t.simulate(people.edges, task, task.first(5)) for t in (twin, back))
    assert np.array_equal(one.mean_rt_s, other.mean_rt_s)
    assert back.members[0].curve == twin.members[0].curve
    with safe_open(path, framework="numpy") as file:
        header = file.metadata()["fcnef"]
    assert "P0003" not in header
    assert json.loads(header)["atlas"]["digest"] == people.atlas.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 0}, "expected format 2, found 0"),
        ({"kind": "LassoEnsemble"}, "expected a twin, found a LassoEnsemble"),
        ({"fold_digest": "0"}, "expected the folds it was trained with"),
        ({"members": [{}]}, "header damaged"),
    ],
)
def test_another_file_is_refused(twin, tmp_path, change, message):
    path = save_twin(twin, tmp_path / "twin")
    arrays, header = read_arrays(path)
    write_arrays(path, arrays, {**header, **change})
    with pytest.raises(TwinError, match=message):
        load_twin(path)


def test_a_missing_or_broken_file_is_refused(tmp_path):
    with pytest.raises(TwinError, match="expected a file, found none"):
        load_twin(tmp_path / "none")
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    with pytest.raises(TwinError, match="expected safetensors"):
        load_twin(tmp_path / "broken")


def test_a_synthetic_twin_is_no_twin_for_a_plan(twin):
    with pytest.raises(TwinError, match="expected a twin of real people for a plan"):
        require_real(twin, "a plan")
    require_real(replace(twin, provenance="real"), "a plan")


def test_connectomes_of_another_atlas_or_scale_are_refused(twin, new):
    people, examples = new
    with pytest.raises(AtlasError, match="expected 435 edges"):
        twin.simulate(people.edges[:, :-1], examples)
    with pytest.raises(ScaleError, match="beyond ±10"):
        twin.simulate(100.0 * people.edges, examples)


def test_who_is_unlike_the_training_people_is_outside(twin, training):
    people, _ = training
    names = [f"new{k}" for k in range(30)]
    assert twin.outside(people.edges, names).mean() < 0.2
    assert twin.outside(people.edges + 1.5, names).all()


def test_a_person_twice_another_task_and_other_people_are_refused(twin, training, new):
    people, examples = training
    twice = replace(examples, people=("P0001", *examples.people[1:]))
    with pytest.raises(TwinError, match="expected everybody once, found P0001 twice"):
        Twin.fit(people.edges, twice, people.atlas, "synthetic", SETTINGS)
    other = replace(new[1], channels=("a", "b"))
    with pytest.raises(TwinError, match="expected a task with the channels"):
        twin.simulate(new[0].edges, other)
    with pytest.raises(TwinError, match="expected behaviour of the people of the task"):
        twin.simulate(new[0].edges, new[1], examples)


def test_the_published_form_runs_and_says_that_it_has_no_k_shot(training):
    people, examples = training
    settings = replace(SETTINGS, form="whole", epochs=2, check_every=1)
    twin = Twin.fit(people.edges, examples, people.atlas, "synthetic", settings)
    told = twin.simulate(people.edges, examples)
    assert np.isfinite(told.rt_s).all()
    with pytest.raises(TwinError, match="low-rank form for k-shot"):
        twin.simulate(people.edges, examples, examples.first(3))
