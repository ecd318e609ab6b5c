"""Training that can be killed: its whole state in one file a member, replaced when it is whole.

`member-FOLD-SEED.safetensors` in a folder that belongs to one piece of work: edges, trials, folds
and settings are in its digest, and a folder of other work is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offline.checkpoint import digest_of
from offline.errors import TwinError

if TYPE_CHECKING:
    from offline.twin.train import _Run

__all__ = ["Resume"]

ENTRY = "fcnef"


class Resume:
    """The file of one member; made by `open`."""

    def __init__(self, path: Path, digest: str) -> None:
        self.path = path
        self.digest = digest

    @classmethod
    def open(cls, folder: str | Path | None, fold: int, seed: int, work: Any) -> Resume | None:
        """The member's file in this folder, which is made; None without a folder."""
        if folder is None:
            return None
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder / f"member-{fold}-{seed}.safetensors", digest_of((work, fold, seed)))

    def keep(self, run: _Run) -> None:
        """Write the state after an epoch."""
        from safetensors.torch import save_file

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
        partial = self.path.with_name(f".{self.path.name}.part")
        # best may share memory with parameters, which the file format does not allow
        plain = {name: values.detach().clone().contiguous() for name, values in tensors.items()}
        save_file(plain, partial, metadata={ENTRY: json.dumps(state)})
        partial.replace(self.path)

    def restore(self, run: _Run) -> None:
        """Put a kept state back, where there is one.

        Raises
        ------
        TwinError
            If the file is damaged, or of other work.
        """
        if not self.path.exists():
            return
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as file:
                state = json.loads(file.metadata()[ENTRY])
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise TwinError(
                f"checkpoint {self.path}: expected a whole file, found {error}; remove it"
            ) from error
        if state["digest"] != self.digest:
            raise TwinError(
                f"checkpoint {self.path}: expected the same people, trials, folds and settings,"
                " found others; remove the folder, or give another"
            )
        device = run.codes.device
        run.codes = tensors["codes"].to(device)
        for name in run.parameters:
            run.parameters[name] = tensors[f"parameters.{name}"].to(device)
        run.best = {name: tensors[f"best.{name}"].to(device) for name in run.best}
        for name in run.adam.moments:
            run.adam.moments[name] = tensors[f"adam.{name}"].to(device)
        run.adam.steps = dict(state["steps"])
        run.epoch, run.since_best = state["epoch"], state["since_best"]
        run.best_loss = float.fromhex(state["best_loss"])
        run.curve = [
            {name: float.fromhex(value) for name, value in line.items()} for line in state["curve"]
        ]
