"""Twins on disk: what is not whole is refused in one line, never simulated with."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (fcnef[offline])")

from safetensors.numpy import save_file  # noqa: E402

from offline.errors import TwinError  # noqa: E402
from offline.model_file import read_arrays, write_arrays  # noqa: E402
from offline.twin.files import load_twin, save_twin  # noqa: E402
from offline.twin.model import Settings  # noqa: E402
from offline.twin.twin import Twin  # noqa: E402
from offline.twin.whole import parse_header, require_arrays  # noqa: E402
from tests.offline.twin.tasks_of import small  # noqa: E402

SETTINGS = Settings(units=5, rank=2, epochs=1, segments=1, batch=12, folds=2, hidden=4)


def fitted(**how):
    bold = how.pop("bold", False)
    people, examples = small(n_people=24, bold=bold)
    settings = replace(SETTINGS, **how)
    return Twin.fit(people.edges, examples, people.atlas, "synthetic", settings)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Header and arrays of a whole twin, not to be changed."""
    return content(save_twin(fitted(), tmp_path_factory.mktemp("twin") / "twin"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Of the published form."""
    return content(save_twin(fitted(form="whole"), tmp_path_factory.mktemp("twin") / "twin"))


def content(path):
    arrays, header = read_arrays(path)
    return header, arrays


def written(folder, header, arrays):
    """A file whose digest is right: what is in it has to be looked at."""
    path = folder / "twin.safetensors"
    write_arrays(path, arrays, header)
    return path


def refused(path, message="damaged"):
    with pytest.raises(TwinError, match=message) as caught:
        load_twin(path)
    line = str(caught.value)
    assert line.startswith(f"twin {path}: expected ")
    assert "\n" not in line
    return line


def member(**changes):
    """A change of the first member's entries."""
    return lambda header: header["members"][0].update(changes)


def shape(**changes):
    return lambda header: header["members"][0]["shape"].update(changes)


@pytest.mark.parametrize("how", [{}, {"form": "whole"}, {"bold": True}, {"seeds": 2},
                                 {"bold": True, "form": "whole"}], ids=str)  # fmt: skip
def test_every_form_is_whole(how, tmp_path):
    """What is checked is what training makes."""
    twin = fitted(**how)
    path = save_twin(twin, tmp_path / "twin")
    back = load_twin(path)
    assert back.settings == twin.settings
    assert back.members[0].shape == twin.members[0].shape
    assert back.members[-1].curve == twin.members[-1].curve
    header, arrays = content(path)
    # nothing is in the file that is not looked at
    for name in arrays:
        lost = {other: values for other, values in arrays.items() if other != name}
        with pytest.raises(KeyError, match=name):
            require_arrays(parse_header(header), lost, back.atlas.n_edges)


def test_what_is_put_together_again_is_read(kept, tmp_path):
    assert load_twin(written(tmp_path, *kept)).provenance == "synthetic"


def test_changed_bytes_are_refused(tmp_path):
    path = save_twin(fitted(), tmp_path / "twin")
    path.write_bytes(path.read_bytes()[:-2000] + np.random.default_rng(0).bytes(2000))
    refused(path, "what was written, found it changed")


@pytest.mark.parametrize("header", [[], None, 3, "text"])
def test_a_header_that_is_no_object_is_refused(kept, tmp_path, header):
    path = tmp_path / "twin.safetensors"
    save_file(kept[1], path, metadata={"fcnef": json.dumps(header)})
    refused(path, "without its header")


ENTRIES = ("atlas", "bases", "channels", "conditions", "fold_digest", "members", "people",
           "provenance", "regions", "settings")  # fmt: skip


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_that_is_lost_or_of_another_kind_is_refused(kept, tmp_path, name):
    header, arrays = kept
    lost = {entry: value for entry, value in header.items() if entry != name}
    assert name in refused(written(tmp_path, lost, arrays))
    for value in ([], "text", None, {}, 3, [3], [[]]):
        if value != header[name]:
            refused(written(tmp_path, {**header, name: value}, arrays), "damaged|the folds")


CHANGES = {
    "another provenance": lambda header: header.update(provenance="imagined"),
    "a person less": lambda header: header["people"].pop(),
    "a person twice": lambda header: header["people"].__setitem__(0, header["people"][1]),
    "a channel more": lambda header: header["channels"].append("more"),
    "a region more": lambda header: header["regions"].append("more"),
    "no condition": lambda header: header["conditions"].clear(),
    "a member less": lambda header: header["members"].pop(),
    "a member twice": lambda header: header["members"].__setitem__(0, header["members"][1]),
    "a changed label": lambda header: header["atlas"]["labels"].reverse(),
    "no labels": lambda header: header["atlas"].pop("labels"),
    "labels of lists": lambda header: header["atlas"].update(labels=[[], []]),
    "a number as digest": lambda header: header["atlas"].update(digest=3),
    "another form": lambda header: header["settings"].update(form="whole"),
    "no such form": lambda header: header["settings"].update(form="dense"),
    "an unknown setting": lambda header: header["settings"].update(tempo=3),
    "units of text": lambda header: header["settings"].update(units="many"),
    "other units": lambda header: header["settings"].update(units=6),
    "another rank": lambda header: header["settings"].update(rank=3),
    "more seeds": lambda header: header["settings"].update(seeds=2),
    "NaN as bound": lambda header: header["bases"]["basis0"].update(bounds=[1.0, float("nan")]),
    "one bound": lambda header: header["bases"]["basis0"].update(bounds=[1.0]),
    "no people of a basis": lambda header: header["bases"]["basis0"].pop("people"),
    "a lost basis": lambda header: header["bases"].pop("basis0"),
    "another fold": member(fold=7),
    "a fold of text": member(fold="a"),
    "no such basis": member(basis="basis9"),
    "no degree": member(degree=None),
    "NaN as degree": member(degree=float("nan")),
    "terms of three": member(terms=[[-1, -1, -1]]),
    "terms of no block": member(terms=[[10**9]]),
    "terms of numbers": member(terms=[3]),
    "no parameters": member(parameters=[]),
    "a curve of numbers": member(curve=[3]),
    "members of numbers": lambda header: header.update(members=[3]),
    "no shape": member(shape=None),
    "other actions": shape(actions=3),
    "no actions": shape(actions=0),
    "other channels": shape(channels=9),
    "regions without BOLD": shape(regions=2),
    "no scores": shape(scores=0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_header_at_odds_with_itself_is_refused(kept, tmp_path, change):
    header = json.loads(json.dumps(kept[0]))
    CHANGES[change](header)
    refused(written(tmp_path, header, kept[1]))


@pytest.mark.parametrize("change", ["other actions", "no such basis", "terms of three"])
def test_what_the_header_alone_tells_is_told_of_it(kept, change):
    header = json.loads(json.dumps(kept[0]))
    CHANGES[change](header)
    with pytest.raises(ValueError, match=r"members\.[01]\..* at odds with the rest"):
        parse_header(header)


def test_weights_of_a_block_that_is_not_there_are_refused(kept, tmp_path):
    header, arrays = json.loads(json.dumps(kept[0])), dict(kept[1])
    some = next(values for name, values in arrays.items() if name.startswith("0.map.weights"))
    for block in (-2, int(arrays["basis0.block"].max()) + 1):
        term = [block] if some.ndim == 2 else [block, block]
        header["members"][0]["terms"] = [term]
        arrays[f"0.map.weights.{'.'.join(map(str, term))}"] = some
        refused(written(tmp_path, header, arrays), "blocks that the basis does not have")


def test_settings_that_are_refused_say_why(kept, tmp_path):
    header = {**kept[0], "settings": {**kept[0]["settings"], "rank": 0}}
    line = refused(written(tmp_path, header, kept[1]))
    assert line.endswith(
        "(settings: expected rank >= 1, found 0; give that or more); take another copy"
    )


def test_every_array_is_asked_for_its_kind_shape_and_numbers(kept, tmp_path):
    header, arrays = kept
    for name, values in arrays.items():
        others = [values[:-1], values[None], np.concatenate([values, values])]
        if values.dtype.kind == "f":
            others += [np.where(values == values.flat[0], np.nan, values), values.astype(np.int64)]
        else:
            others += [values.astype(np.float64), values - 9]
        for other in others:
            refused(written(tmp_path, header, {**arrays, name: other}))
        refused(written(tmp_path, header, {k: v for k, v in arrays.items() if k != name}))


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("basis0.sd", np.zeros_like),
        ("basis0.scale", np.negative),
        ("basis0.block", lambda values: values + 10**12),
        ("0.parameters.rt", lambda values: values.astype(np.float64)),
        ("folds", lambda values: values[::-1].copy()),
    ],
)
def test_impossible_numbers_are_refused(kept, tmp_path, name, other):
    header, arrays = kept
    changed = {**arrays, name: other(arrays[name])}
    refused(written(tmp_path, header, changed), "the folds" if name == "folds" else name)


def test_arrays_of_the_published_form_are_asked_too(whole, tmp_path):
    header, arrays = whole
    for name in (f"0.parameters.{part}" for part in ("first", "second", "last", "last_bias")):
        refused(written(tmp_path, header, {**arrays, name: arrays[name][:-1].copy()}), name)
    header = json.loads(json.dumps(header))
    header["members"][0]["shape"]["scores"] += 1
    refused(written(tmp_path, header, arrays), "scores")
