"""What states say of choices, response times and BOLD, against slow ways to compute the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (fcnef[offline])")

from offline.twin import heads as heads_module  # noqa: E402
from offline.twin.heads import bold_of, choice_loss, linear, read, rt_loss, rt_of  # noqa: E402
from offline.twin.hrf import canonical_hrf  # noqa: E402
from tests.offline.twin.tasks_of import small  # noqa: E402

N_UNITS = 4


@pytest.fixture(scope="module")
def examples():
    return small(n_people=6)[1].of(np.arange(3))


@pytest.fixture(scope="module")
def h(examples):
    shape = (examples.n_steps, 3, examples.n_segments, N_UNITS)
    return torch.from_numpy(np.random.default_rng(0).uniform(-1.0, 1.0, shape))


@pytest.fixture(scope="module")
def weights(examples):
    rng = np.random.default_rng(1)
    rows = {"rt": (2, 4 * N_UNITS + 1), "choice": (examples.n_actions, N_UNITS + 1)}
    weights = {
        name: torch.from_numpy(0.15 * rng.standard_normal(size)) for name, size in rows.items()
    }
    weights["choice"][:, -1] = -5.0
    return weights


def test_rt_is_read_from_the_states_after_the_onset(examples, h, weights):
    mean, log_sd = rt_of(h, weights["rt"], examples)
    person, segment, slot = 1, 2, 3
    onset = examples.onset[person, segment, slot]
    seen = [h[onset + round(after / 0.08), person, segment] for after in heads_module.READ_S]
    both = weights["rt"] @ torch.cat([*seen, torch.ones(1, dtype=torch.float64)])
    assert mean[person, segment, slot].item() == pytest.approx(both[0].item())
    assert log_sd[person, segment, slot].item() == pytest.approx(both[1].item())


def test_rt_loss_is_the_normal_likelihood_of_correct_trials_alone(examples, h, weights):
    mean, log_sd = rt_of(h, weights["rt"], examples)
    found = rt_loss(mean, log_sd, examples)
    known = np.isfinite(examples.log_rt)
    assert 0 < np.sum(~known & (examples.onset >= 0)) < known.sum()
    normal = torch.distributions.Normal(mean, log_sd.exp())
    values = torch.from_numpy(np.where(known, examples.log_rt, 0.0))
    expected = -(normal.log_prob(values) + 0.5 * np.log(2.0 * np.pi)) * torch.from_numpy(known)
    assert torch.allclose(found, expected.sum(dim=(1, 2)))


def test_probabilities_are_summed_rates_and_what_is_missing_is_a_miss(examples, h, weights):
    probability = read(h, weights, examples).probabilities
    assert torch.allclose(probability.sum(-1), torch.ones((), dtype=torch.float64))
    rates = torch.sigmoid(linear(h, weights["choice"]))
    person, segment, slot = 2, 1, 4
    window = slice(examples.onset[person, segment, slot], examples.end[person, segment, slot])
    summed = rates[window, person, segment].sum(0)
    assert summed.sum() < 1.0
    assert torch.allclose(probability[person, segment, slot, :-1], summed)


def test_choice_loss_is_cross_entropy_and_unknown_choices_are_left_out(examples, h, weights):
    logits = linear(h, weights["choice"])
    target = torch.zeros_like(logits)
    counts = torch.ones(logits.shape[:3], dtype=torch.float64)
    unknown = examples.choice.copy()
    unknown[0, 0, 0] = -1
    response = examples.response_step.copy()
    response[0, 0, 0] = -1
    changed = examples.of(np.arange(3))
    object.__setattr__(changed, "choice", unknown)
    object.__setattr__(changed, "response_step", response)
    for person, segment, slot in np.ndindex(*response.shape):
        if response[person, segment, slot] >= 0:
            action = unknown[person, segment, slot]
            target[response[person, segment, slot], person, segment, action] = 1.0
    counts[examples.onset[0, 0, 0] : examples.end[0, 0, 0], 0, 0] = 0.0
    p = torch.sigmoid(logits)
    expected = -(target * p.log() + (1.0 - target) * (1.0 - p).log()).sum(-1) * counts
    assert torch.allclose(choice_loss(logits, changed), expected.sum(dim=(0, 2)))
    assert not torch.allclose(choice_loss(logits, examples)[0], expected.sum(dim=(0, 2))[0])


def test_a_response_of_unknown_choice_is_any_that_it_may_have_been(examples, h, weights):
    """At its step: 1 less the probability that none of the possible actions comes."""
    logits = linear(h, weights["choice"])
    whose = np.argwhere((examples.response_step >= 0) & np.isfinite(examples.log_rt))[:2]
    choice, answer, log_rt = (
        values.copy() for values in (examples.choice, examples.answer, examples.log_rt)
    )
    (one, other) = map(tuple, whose)
    choice[one], answer[one] = -1, -1  # sides unknown: any of them
    choice[other], log_rt[other] = -1, np.nan  # wrong: any but the right one
    changed = replace(examples, choice=choice, answer=answer, log_rt=log_rt)
    p = torch.sigmoid(logits)
    expected = choice_loss(logits, examples).clone()
    for place, possible in ((one, [0, 1]), (other, [1 - int(answer[other])])):
        person, segment, _ = place
        own = p[examples.response_step[place], person, segment]
        chosen = int(examples.choice[place])
        known = -torch.log(own[chosen]) - torch.log(1.0 - own[1 - chosen])
        rest = [a for a in (0, 1) if a not in possible]
        some = -torch.log(1.0 - torch.prod(1.0 - own[possible]))
        expected[person] += some - torch.log(1.0 - own[rest]).sum() - known
    assert torch.allclose(choice_loss(logits, changed), expected)


def test_bold_is_the_runs_activity_convolved_and_read_at_the_volumes():
    _, examples = small(n_people=6, bold=True)
    examples = examples.of(np.arange(2))
    n_steps, step_s = examples.n_steps, examples.step_s
    rng = np.random.default_rng(2)
    h = torch.from_numpy(rng.uniform(0.0, 1.0, (n_steps, 2, examples.n_segments, N_UNITS)))
    w = torch.from_numpy(rng.standard_normal((2, N_UNITS + 1)))
    found = bold_of(linear(h, w), examples).numpy()

    person, segment, volume, region = 1, 7, 20, 0
    starts = examples.start_step[person]
    at_s = starts[segment] * step_s + examples.bold_s[person, segment, volume]
    at = round(at_s / step_s)
    activity = linear(h, w).numpy()
    total = 0.0
    for earlier in range(segment + 1):
        begin = starts[earlier]
        end = begin + n_steps
        if earlier < segment:
            end = min(end, starts[earlier + 1])
        for step in range(begin, min(end, at + 1)):
            weight = canonical_hrf([(at - step) * step_s])[0] * step_s
            total += weight * activity[step - begin, person, earlier, region]
    assert found[person, segment, volume, region] == pytest.approx(total, rel=1e-9)


def test_own_heads_of_each_person_are_used_for_that_person(h):
    rng = np.random.default_rng(3)
    own = torch.from_numpy(rng.standard_normal((3, 2, N_UNITS + 1)))
    both = linear(h, own)
    for person in range(3):
        alone = linear(h[:, [person]], own[person])
        assert torch.allclose(both[:, [person]], alone)
