"""The simulated participant against its own truth. Simulated data throughout."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from rtloop.errors import ConfigError
from rtloop.plan import Sphere
from tools.participant import (
    Edge,
    Grid,
    Learner,
    Nuisance,
    Participant,
    Scripted,
    default_spheres,
    network_correlation,
)
from tools.participant.nuisance import Body, pose_matrix
from tools.participant.signals import RoiSignals

SMALL = Grid.axial((40, 48, 20), (4.5, 4.5, 6.0))


def roi_means(person: Participant, n_volumes: int) -> NDArray[np.float64]:
    """Means of the labelled voxels, (n_volumes, n_rois)."""
    inside = [person.truth.labels == k + 1 for k in range(len(person.spheres))]
    volumes = (person.volume(index).data for index in range(n_volumes))
    return np.array([[data[mask].mean() for mask in inside] for data in volumes])


@pytest.fixture(scope="module")
def still() -> Participant:
    return Participant(4, SMALL, tr_s=1.5, nuisance=Nuisance.none(), baseline=3000)


def test_roi_means_follow_the_true_signals_to_rounding(still: Participant) -> None:
    n = 60
    measured, true = roi_means(still, n), still.truth.signals(n)
    for k in range(len(still.spheres)):
        assert np.corrcoef(measured[:, k], true[:, k])[0, 1] > 0.999
    percent = 100 * measured.std(axis=0) / measured.mean(axis=0)
    np.testing.assert_allclose(percent / true.std(axis=0), still.signal_pct, rtol=0.06)


def test_volumes_look_like_bold(still: Participant) -> None:
    data, brain = still.volume(0).data, still.truth.brain
    assert data.dtype == np.int16
    assert data.flags.f_contiguous
    assert 0.9 < np.median(data[brain]) / still.baseline < 1.1
    white, csf = (np.median(data[still.truth.tissue == value]) for value in (1, 2))
    assert white < csf
    far = data[:3, :3, -3:]
    assert far.mean() < 0.05 * still.baseline


def test_labels_are_balls_around_the_spheres(still: Participant) -> None:
    for k, sphere in enumerate(still.spheres):
        index = np.argwhere(still.truth.labels == k + 1)
        world = index @ still.grid.affine[:3, :3].T + still.grid.affine[:3, 3]
        distance = np.linalg.norm(world - np.array(sphere.center_mm), axis=1)
        assert len(index) >= 5
        assert distance.max() <= sphere.radius_mm


def test_same_seed_same_bits_in_any_order() -> None:
    first, second = (Participant(9, SMALL, tr_s=1.0) for _ in range(2))
    forward = [first.volume(index).data for index in (0, 1, 2)]
    second.volume(2)
    backward = [second.volume(index).data for index in (2, 1, 0)][::-1]
    for one, other in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(forward[0], Participant(10, SMALL, tr_s=1.0).volume(0).data)


def test_motion_truth_undoes_the_motion() -> None:
    nuisance = Nuisance(np.inf, 0.8, 0.02, 0, 0, 0, 0, 0, 0, 0)
    person = Participant(2, SMALL, tr_s=1.0, nuisance=nuisance, signal_pct=0, baseline=3000)
    # The coil stays where it is when the head moves: its shading is no part of the head.
    coil = person.grid.coil()
    reference, moved = (person.volume(index).data / coil for index in (0, 40))
    step = person.truth.matrix(40, reference=0)
    assert np.abs(person.truth.pose(40)).max() > 0.3
    inner = ndimage.binary_erosion(person.truth.brain, iterations=3)

    def residual(matrix: NDArray[np.float64]) -> float:
        sampled = np.linalg.inv(person.grid.affine) @ matrix @ person.grid.affine
        undone = ndimage.affine_transform(moved, sampled[:3, :3], sampled[:3, 3], order=3)
        return float((undone - reference)[inner].std())

    best = residual(step)
    assert best < 0.45 * (moved - reference)[inner].std()
    for parameter in range(6):
        for sign in (-1, 1):
            aside = np.zeros(6)
            aside[parameter] = sign * (0.15 if parameter < 3 else 0.004)
            assert residual(pose_matrix(aside, person.centre_mm) @ step) > best


def test_moved_head_carries_its_signals() -> None:
    nuisance = Nuisance(np.inf, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    sphere = Sphere(name="one", center_mm=(-30.0, -20.0, 50.0), radius_mm=10.0)
    person = Participant(
        1, SMALL, tr_s=1.0, nuisance=nuisance, spheres=(sphere,), edges=(), baseline=5000
    )
    person.body.poses[:] = [np.zeros(6), np.array([9.0, 0, 0, 0, 0, 0])]
    person.signals.at(1, np.zeros(1))
    person.signals._sources[1][:] = 30.0  # thirty standard deviations: the ball is visible
    person.body._starts[:], person.body._rates[:] = [np.zeros(2)] * 2, [np.zeros(2)] * 2
    active = person.volume(1).data.astype(float)
    person.signals._sources[1][:] = 0.0
    lit = np.argwhere(active - person.volume(1).data > 100)
    centre = lit.mean(axis=0) @ person.grid.affine[:3, :3].T + person.grid.affine[:3, 3]
    expected = np.add(person.spheres[0].center_mm, (9.0, 0, 0))
    np.testing.assert_allclose(centre, expected, atol=1.5)


def test_pose_matrix_turns_about_the_centre() -> None:
    centre = np.array([1.0, -20.0, 10.0])
    matrix = pose_matrix(np.array([0, 0, 0, 0.02, -0.01, 0.03]), centre)
    np.testing.assert_allclose(matrix[:3, :3] @ centre + matrix[:3, 3], centre, atol=1e-12)
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)


def signals(script: Scripted | Learner, n_rois: int = 3, seed: int = 0) -> RoiSignals:
    return RoiSignals(np.eye(n_rois), [Edge(0, 1)], script, 1.0, (0.01, 0.1), seed)


def test_population_correlation_is_the_scripts() -> None:
    process = signals(Scripted(((0, 0.0), (4000, 0.8))))
    x = np.array([process.at(index, np.zeros(1))[0] for index in range(8000)])
    for part, z in ((x[:4000], 0.0), (x[4000:], 0.8)):
        # About 1500 effective samples: standard error .03.
        found = np.corrcoef(part.T)
        assert np.arctanh(found[0, 1]) == pytest.approx(z, abs=0.09)
        assert found[0, 2] == pytest.approx(0.0, abs=0.09)
    np.testing.assert_allclose(x.std(axis=0), 1.0, rtol=0.06)


def test_signals_stay_in_their_band_and_have_the_stated_autocorrelation() -> None:
    process = signals(Scripted())
    x = np.array([process.at(index, np.zeros(1))[0] for index in range(6000)])
    power = np.abs(np.fft.rfft(x, axis=0)).mean(axis=1) ** 2
    frequency = np.fft.rfftfreq(len(x), 1.0)
    inside = (frequency > 0.01) & (frequency < 0.1)
    assert power[inside].sum() > 0.7 * power.sum()
    stated = process.autocorrelation(12)
    found = [np.mean(x[: len(x) - lag] * x[lag:]) / np.mean(x * x) for lag in range(12)]
    np.testing.assert_allclose(found, stated, atol=0.06)


def test_measured_correlation_knows_the_noise() -> None:
    nuisance = Nuisance(30.0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    spheres, _ = default_spheres(2)
    person = Participant(
        3, SMALL, tr_s=2.0, nuisance=nuisance, spheres=spheres, script=Scripted(((0, 0.9),)),
        signal_pct=0.6,
    )  # fmt: skip
    n = 400
    x = roi_means(person, n)
    population = person.truth.correlation(0)[0, 1]
    expected = person.truth.measured_correlation(0)[0, 1]
    assert population - expected > 0.15
    assert np.corrcoef(x.T)[0, 1] == pytest.approx(expected, abs=0.07)
    for window in (5, 20):
        parts = x.reshape(-1, window, 2)
        parts = parts - parts.mean(axis=1, keepdims=True)
        sums = np.einsum("wti,wtj->ij", parts, parts)
        in_window = person.truth.measured_correlation(0, window)[0, 1]
        found = sums[0, 1] / np.sqrt(sums[0, 0] * sums[1, 1])
        assert found == pytest.approx(in_window, abs=0.08)


def test_learner_keeps_what_is_rewarded_and_ignores_what_is_not_related() -> None:
    def taught(seed: int, reward: bool) -> float:
        learner = Learner(seed=seed, block_volumes=1)
        chance = np.random.default_rng(seed)
        for index in range(100):
            z = learner.z(index)
            value = 50 + 100 * (z - 0.2) if reward else 100 * chance.random()
            learner.hear(index, float(np.clip(value, 0, 100)))
        return learner.skill_z

    assert np.mean([taught(seed, reward=True) for seed in range(20)]) > 0.3
    assert abs(np.mean([taught(seed, reward=False) for seed in range(20)])) < 0.15


def test_feedback_changes_only_what_is_not_made_yet() -> None:
    heard, deaf = (
        Participant(6, SMALL, tr_s=1.0, script=Learner(gain_z=2.0, block_volumes=1))
        for _ in range(2)
    )
    for index in range(4):
        heard.volume(index)
        deaf.volume(index)
    before = heard.volume(3).data.copy()
    heard.hear(3, 100.0)
    np.testing.assert_array_equal(heard.volume(3).data, before)
    assert heard.truth.z(3) == deaf.truth.z(3)
    assert heard.truth.z(4) != deaf.truth.z(4)


def test_motion_has_walk_jumps_and_breathing() -> None:
    quiet = dict.fromkeys(Nuisance.__slots__, 0)
    jumps = Body(Nuisance(**{**quiet, "jumps_per_minute": 3, "jump_mm": 1}), 1.0, 0)
    poses = np.array([jumps.pose(index) for index in range(300)])
    n_jumps = (np.abs(np.diff(poses[:, 0])) > 0).sum()
    assert 5 <= n_jumps <= 30
    breathing = Body(Nuisance(**{**quiet, "breath_mm": 0.1}), 0.5, 0)
    y = np.array([breathing.pose(index)[1] for index in range(400)])
    peak = np.fft.rfftfreq(400, 0.5)[np.abs(np.fft.rfft(y - y.mean())).argmax()]
    assert peak == pytest.approx(0.27, abs=0.05)
    walk = Body(Nuisance(**{**quiet, "walk_mm": 0.2}), 10.0, 0)
    x = np.array([walk.pose(index)[0] for index in range(4000)])
    assert x.std() == pytest.approx(0.2, rel=0.15)


def test_slice_times_are_interleaved_within_the_repetition() -> None:
    assert Grid.axial((8, 8, 5)).slice_times_s(1.0) == (0.0, 0.6, 0.2, 0.8, 0.4)
    bands = Grid.axial((8, 8, 6), multiband=2).slice_times_s(0.9)
    assert bands[:3] == bands[3:] == (0.0, 0.6, 0.3)


def test_default_spheres_lie_apart_and_steer_safely() -> None:
    spheres, networks = default_spheres(24, radius_mm=6.0)
    centres = np.array([sphere.center_mm for sphere in spheres])
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=-1) + 1e3 * np.eye(24)
    assert distance.min() >= 16.0
    assert (spheres[0].name, spheres[1].name) == ("dlPFC 24", "precuneus 112")
    matrix = network_correlation(networks)
    for z in (-0.9, 0.9):
        matrix[0, 1] = matrix[1, 0] = np.tanh(z)
        assert np.linalg.eigvalsh(matrix)[0] > 0
    assert len(default_spheres(100, radius_mm=5.0, gap_mm=2.0, atlas="power")[0]) == 100


def test_bad_input_is_named() -> None:
    with pytest.raises(ConfigError, match="found 3"):
        default_spheres(99, radius_mm=40.0)
    with pytest.raises(ConfigError, match="ascending start indices"):
        Scripted(((3, 0.1),))
    base = np.full((3, 3), 0.6) + 0.4 * np.eye(3)
    process = RoiSignals(base, [Edge(0, 1, -1)], Scripted(((0, 0.9),)), 1.0, (0.01, 0.1), 0)
    with pytest.raises(ConfigError, match="positive definite"):
        process.at(0, np.zeros(1))
