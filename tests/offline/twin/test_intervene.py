"""Interventions: exact against the network itself, intervals by folds, plans of real twins only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

torch = pytest.importorskip("torch", reason="torch is not installed (fcnef[offline])")

from offline.errors import AtlasError, ScaleError, TwinError  # noqa: E402
from offline.twin.background import backgrounds_of  # noqa: E402
from offline.twin.edit import edit_connectomes  # noqa: E402
from offline.twin.effects import jackknife, normal_interval  # noqa: E402
from offline.twin.intervene import ask  # noqa: E402
from offline.twin.outcomes import (  # noqa: E402
    Target,
    measured_responses,
    outcomes,
    predicted_bold,
    slopes,
    targets_of,
)
from offline.twin.slopes import edge_slopes  # noqa: E402

COHORT = {"n_people": 45, "bold": True}
N_TRAINED = 30


def test_rt_is_what_simulate_says(twin, new):
    z, task = new
    told = ask(twin, z, task, ["rt", "rt:matching face"])
    expected = twin.simulate(z, task)
    assert np.allclose(told[0], expected.mean_rt_s, rtol=1e-6)
    assert np.allclose(told[1], expected.condition_rt_s[:, :, 0], rtol=1e-6)


def test_slopes_are_those_of_differences(twin, new):
    z, task = new
    member = twin.members[0]
    task = task.of(np.arange(3))
    who = member.who(z[:3])
    for target in (Target("rt"), Target("response", "amygdala_R", "matching face")):
        found = slopes(member, task, who, target)
        for k in range(3):
            up, down = who.copy(), who.copy()
            up[:, k] += 0.02
            down[:, k] -= 0.02
            values = [outcomes(member, task, w, [target])[0] for w in (up, down)]
            assert np.allclose((values[0] - values[1]) / 0.04, found[:, k], atol=2e-4)


def test_a_response_is_the_beta_of_predicted_bold(twin, new):
    """What is asked of the network equals the betas of its own series, taken as if measured."""
    z, task = new
    member = twin.members[0]
    task = task.of(np.arange(4))
    who = member.who(z[:4])
    series = predicted_bold(member, task, who)
    as_measured = replace(task, bold=series.astype(np.float32))
    there = np.isfinite(task.bold_s)
    as_measured.bold[~there] = np.nan
    for condition in (None, "matching face"):
        targets = [Target("response", name, condition) for name in task.regions]
        asked = outcomes(member, task, who, targets).T
        assert np.allclose(asked, measured_responses(as_measured, condition), atol=1e-4)


def test_an_intervention_is_the_edited_connectome_doing_the_task(twin, new):
    z, task = new
    _, sd = twin.edge_spread()
    found = twin.intervene(z, [7], 0.5 * sd[[7]], task, targets=["rt"])
    done = [not why for why in found.refused]
    assert sum(done) > 5
    edited = z.copy()
    edited[:, 7] += 0.5 * sd[7]
    alone = np.array(done) & (found.others == 0.0)
    assert alone.any()
    expected = twin.simulate(edited, task).mean_rt_s - twin.simulate(z, task).mean_rt_s
    assert np.allclose(found.members[0][:, alone], expected[:, alone], atol=1e-6)
    assert np.isnan(found.change[0, ~np.array(done)]).all()


def test_what_trials_say_beyond_the_connectome_stays(twin, new):
    """What the network takes of a person moves by what the map says of the edit, no more."""
    z, task = new
    mean, sd = twin.edge_spread()
    behaviour = task.first(20)
    found = twin.intervene(z, [7], 0.5 * sd[[7]], task, behaviour, targets=["rt"])
    told = twin.simulate(z, task, behaviour).rt_s
    assert np.allclose(found.before[0], told, rtol=1e-5)
    edited = edit_connectomes(z, twin.atlas, [7], 0.5 * sd[[7]], mean, sd)
    done = np.array([not why for why in found.refused])
    assert done.sum() > 5
    for member, change in zip(twin.members, found.members[0], strict=True):
        who = twin.who(member, edited.before, behaviour)
        moved = member.who(edited.after) - member.who(edited.before)
        before, after = (outcomes(member, task, w, [Target("rt")])[0] for w in (who, who + moved))
        assert np.allclose(change[done], (after - before)[done], atol=1e-7)


def test_own_effects_point_where_the_shrunken_ones_do_and_have_intervals_for_all(twin, training):
    people, examples = training
    _, sd = twin.edge_spread()
    known = backgrounds_of(twin, people.edges[:30], examples.of(np.arange(30)))
    dose = np.linspace(-0.5, 0.5, 45)[:, None] * sd[[7]]
    asked = people.edges, [7], dose, examples
    own = twin.intervene(*asked, targets=["rt"], backgrounds=known)
    shrunken = twin.intervene(*asked, targets=["rt"])
    assert own.refused == shrunken.refused
    done = np.array([not why for why in own.refused]) & (np.abs(dose[:, 0]) > 0.0)
    assert np.isfinite(own.low[0, done]).all()  # people of the training data have one here
    assert (own.low[0, done] < own.change[0, done]).all()
    same = np.sign(own.change[0, done]) == np.sign(shrunken.change[0, done])
    assert same.mean() > 0.6
    assert np.abs(own.change[0, done]).mean() > 3.0 * np.abs(shrunken.change[0, done]).mean()


def test_slopes_of_all_edges_tell_small_exact_runs(twin, new):
    z, task = new
    found = edge_slopes(twin, z, task)
    _, sd = twin.edge_spread()
    for edge in np.argsort(-np.abs(found[2]))[:3]:
        ran = twin.intervene(z, [edge], 0.2 * sd[[edge]], task, targets=["rt"])
        alone = np.array([not why for why in ran.refused]) & (ran.others == 0.0)
        slope = 0.2 * found[alone, edge]
        assert np.allclose(ran.change[0, alone], slope, rtol=0.2, atol=2e-6)


def test_people_of_the_training_data_have_no_interval(twin, training):
    people, examples = training
    _, sd = twin.edge_spread()
    found = twin.intervene(people.edges, [3], 0.3 * sd[[3]], examples, targets=["rt"])
    done = np.array([not why for why in found.refused])
    assert np.isnan(found.low[0, :30]).all()
    assert done[30:].any()
    assert np.isfinite(found.low[0, 30:][done[30:]]).all()
    assert np.array_equal(
        np.isfinite(found.members[0]).sum(axis=0), np.repeat([1, 3], [30, 15]) * done
    )


def test_the_interval_is_the_delete_a_group_jackknife_of_a_mean():
    """Members that are means of all groups but one: the interval is Student's of the groups."""
    rng = np.random.default_rng(0)
    groups = rng.standard_normal((5, 1))
    members = (groups.sum(axis=0) - groups) / 4.0
    value, low, high = jackknife(members, np.arange(5))
    reach = stats.t.ppf(0.95, 4) * groups.std(ddof=1) / np.sqrt(5)
    assert value[0] == pytest.approx(groups.mean())
    assert (low[0], high[0]) == pytest.approx((groups.mean() - reach, groups.mean() + reach))


def test_a_normal_interval_is_not_made_narrower_by_members_that_share_people():
    """Three members alike say no more than one; a member that does not tell is not counted."""
    change = np.array([[1.0, 2.0], [1.0, np.nan], [1.0, 4.0]])
    value, low, high = normal_interval(change, np.where(np.isfinite(change), 0.25, np.nan))
    assert value == pytest.approx([1.0, 3.0])
    reach = stats.norm.ppf(0.95) * 0.5
    assert (low, high) == (pytest.approx(value - reach), pytest.approx(value + reach))


def test_far_people_are_refused(twin, new):
    z, task = new
    _, sd = twin.edge_spread()
    found = twin.intervene(z + 1.2, [3], 0.1 * sd[[3]], task, targets=["rt"])
    assert all(found.refused)
    assert np.isnan(found.change).all()


def test_connectomes_of_another_atlas_or_scale_and_other_tasks_are_refused(twin, new):
    z, task = new
    with pytest.raises(AtlasError, match="expected 435 edges"):
        twin.intervene(z[:, :-1], [3], [0.01], task)
    with pytest.raises(ScaleError, match="beyond ±10"):
        twin.intervene(100.0 * z, [3], [0.01], task)
    other = replace(task, channels=("a",))
    with pytest.raises(TwinError, match="expected a task with the channels"):
        twin.intervene(z, [3], [0.01], other)


def test_edges_and_targets_are_found_by_name(twin):
    first = twin.atlas.edge_names()[0]
    turned = "--".join(reversed(first.split("--")))
    assert twin.atlas.edge_places([first, turned]).tolist() == [0, 0]
    with pytest.raises(AtlasError, match="expected an edge of atlas"):
        twin.atlas.edge_places(["nowhere--here"])
    names = [str(t) for t in targets_of(twin.conditions, twin.regions)]
    assert len(names) == 9
    assert [str(Target.parse(n, twin.conditions, twin.regions)) for n in names] == names
    for wrong, message in (
        ("speed", "expected a target rt"),
        ("response", "expected a target rt"),
        ("response:insula", "expected a region of the twin"),
        ("rt:words", "expected a condition of the twin"),
    ):
        with pytest.raises(TwinError, match=message):
            Target.parse(wrong, twin.conditions, twin.regions)
