"""The gateway's two neighbours on loopback: an engine with a real stream end, files that arrive."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterable
from pathlib import Path

from rtloop.gateway import Gateway, GatewayConfig
from rtloop.link import StreamSink
from rtloop.volume import Volume
from rtloop.wire import Note, NoteItem, VolumeItem


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Engine:
    """Takes the stream and acknowledges it, as the loop does; its record survives `restart`."""

    def __init__(self, keys: Path | None = None, allow: Iterable[Path] | None = None) -> None:
        self._keys, self._allow = keys, allow
        self.endpoint = f"tcp://127.0.0.1:{free_port()}"
        self.volumes: list[Volume] = []
        self.notes: list[Note] = []
        self.log: list[Volume | Note] = []
        self.connected = False
        self.acknowledging = threading.Event()
        self.acknowledging.set()
        self._epochs: dict[str, int] = {}
        self._committed: dict[str, set[int]] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._stop.clear()
        self.connected = False
        self._thread = threading.Thread(target=self._serve, name="engine")
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def new_record(self) -> None:
        """The next run begins: nothing of the former one is known."""
        self._epochs.clear()
        self._committed.clear()

    def indices(self, attempt: str | None = None) -> list[int]:
        return [v.index for v in self.volumes if attempt in (None, v.attempt)]

    def kinds(self) -> list[str]:
        return [note.kind for note in self.notes]

    def _serve(self) -> None:
        sink = StreamSink(
            self.endpoint,
            self._keys,
            self._allow,
            acknowledged=lambda epoch: self._epochs.get(epoch, -1),
            committed=lambda: {
                name: [(index, index) for index in sorted(indices)]
                for name, indices in self._committed.items()
            },
        )
        while not self._stop.is_set():
            event = sink.receive(0.02)
            self.connected = sink.connected
            if not isinstance(event, VolumeItem | NoteItem):
                continue
            self._take(event.volume if isinstance(event, VolumeItem) else event.note)
            while not self.acknowledging.wait(0.02) and not self._stop.is_set():
                pass
            if not self._stop.is_set():
                if isinstance(event, VolumeItem):
                    known = self._committed.setdefault(event.volume.attempt, set())
                    known.add(event.volume.index)
                self._epochs[event.epoch] = event.seq
                sink.acknowledge(event.epoch, event.seq)
        sink.close()

    def _take(self, content: Volume | Note) -> None:
        self.log.append(content)
        if isinstance(content, Volume):
            self.volumes.append(content)
        else:
            self.notes.append(content)


class Running:
    """A gateway in a thread."""

    def __init__(self, config: GatewayConfig) -> None:
        self.said: list[str] = []
        self.error: BaseException | None = None
        self._gateway = Gateway(config, self.said.append)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gateway")
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._gateway.wake()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._gateway.run(self._stop)
        except BaseException as error:
            self.error = error
            raise


def arrive(files: Iterable[Path], folder: Path) -> list[Path]:
    """Copy files into a folder one after the other, under their own names."""
    return [Path(shutil.copyfile(file, folder / file.name)) for file in files]


def series(folder: Path, pattern: str = "*.dcm") -> list[Path]:
    """Files of a folder in the order of the numbers in their names."""
    return sorted(folder.rglob(pattern), key=lambda path: (len(path.name), path.name))
