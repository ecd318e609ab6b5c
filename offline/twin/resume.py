"""Training that can be killed: its whole state in one file a member, replaced when it is whole.

`member-FOLD-SEED.safetensors` in a folder that belongs to one piece of work: edges, trials, folds
and settings are in its digest. A folder of other work is refused, and so is a damaged file: what
is done anew is for people to say.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from offline.checkpoint import digest_of
from offline.errors import TwinError
from offline.model_file import Arrays, read_arrays, write_arrays

if TYPE_CHECKING:
    from torch import Tensor

    from offline.twin.train import _Run

__all__ = ["Resume"]


class Resume:
    """The file of one member; made by `open`."""

    def __init__(self, path: Path, digest: str) -> None:
        self.path = path
        self.digest = digest

    @classmethod
    def open(cls, folder: str | Path | None, fold: int, seed: int, work: Any) -> Resume | None:
        """The member's file in this folder, which is made; None without a folder.

        Raises
        ------
        TwinError
            If the folder cannot be made.
        """
        if folder is None:
            return None
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TwinError(
                f"checkpoint {folder}: expected a folder to write in, found"
                f" {error.strerror or error}; give another"
            ) from error
        return cls(folder / f"member-{fold}-{seed}.safetensors", digest_of((work, fold, seed)))

    def keep(self, run: _Run) -> None:
        """Write the state after an epoch.

        Raises
        ------
        TwinError
            If it cannot be written.
        """
        tensors = {"codes": run.codes}
        tensors |= {f"parameters.{name}": values for name, values in run.parameters.items()}
        tensors |= {f"best.{name}": values for name, values in run.best.items()}
        tensors |= {f"adam.{name}": values for name, values in run.adam.moments.items()}
        state = {
            "digest": self.digest,
            "epoch": run.epoch,
            # hexadecimal: the same bits come back
            "best_loss": float(run.best_loss).hex(),
            "since_best": run.since_best,
            "steps": run.adam.steps,
            "curve": [{name: value.hex() for name, value in line.items()} for line in run.curve],
        }
        arrays = {name: values.detach().cpu().numpy() for name, values in tensors.items()}
        try:
            write_arrays(self.path, arrays, state)
        except OSError as error:
            raise TwinError(
                f"checkpoint {self.path}: expected to be able to write it, found"
                f" {error.strerror or error}; make room, or give another folder"
            ) from error

    def restore(self, run: _Run) -> None:
        """Put a kept state back, where there is one.

        Raises
        ------
        TwinError
            If the file is damaged, or of other work.
        """
        try:
            arrays, state = read_arrays(self.path)
            other = state["digest"] != self.digest
            if not other:
                _put_back(run, arrays, state)
        except FileNotFoundError:
            return
        except KeyError as error:
            raise self._damaged(f"none of {error}") from error
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise self._damaged(str(error)) from error
        if other:
            raise TwinError(
                f"checkpoint {self.path}: expected the same people, trials, folds and settings,"
                " found others; remove the folder, or give another"
            )

    def _damaged(self, found: str) -> TwinError:
        return TwinError(f"checkpoint {self.path}: expected a whole file, found {found}; remove it")


def _put_back(run: _Run, arrays: Arrays, state: dict[str, Any]) -> None:
    """The state as `keep` took it; a `ValueError` where an array is none of this run."""
    import torch

    def like(name: str, own: Tensor) -> Tensor:
        values = torch.from_numpy(arrays[name])
        if values.shape != own.shape or values.dtype != own.dtype:
            raise ValueError(f"{name} of another shape")
        return values.to(own.device)

    run.codes = like("codes", run.codes)
    for name, own in run.parameters.items():
        run.parameters[name] = like(f"parameters.{name}", own)
    run.best = {name: like(f"best.{name}", own) for name, own in run.best.items()}
    for name, own in run.adam.moments.items():
        run.adam.moments[name] = like(f"adam.{name}", own)
    run.adam.steps = {name: int(state["steps"][name]) for name in run.adam.steps}
    run.epoch, run.since_best = int(state["epoch"]), int(state["since_best"])
    run.best_loss = float.fromhex(state["best_loss"])
    run.curve = [
        {name: float.fromhex(value) for name, value in line.items()} for line in state["curve"]
    ]
