"""What the thread that waits for the next task listens to: descriptors, and a bell for other threads."""

from __future__ import annotations

import os
import select
import weakref
from collections.abc import Callable


class Ear:
    """Descriptors and what to call when one can be read. `wait` in one thread at a time, the rest from any."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        weakref.finalize(self, os.close, self._bell)
        self._poll.register(self._bell, select.EPOLLIN)
        self._hear: dict[int, Callable[[], None]] = {}

    def __len__(self) -> int:
        """How many are listened to."""
        return len(self._hear)

    def add(self, fd: int, hear: Callable[[], None]) -> None:
        """Listen to `fd` from now on, also in a wait under way. Raises OSError."""
        self._poll.register(fd, select.EPOLLIN)
        self._hear[fd] = hear

    def remove(self, fd: int) -> None:
        """Listen to it no more; to be called before it is closed."""
        if self._hear.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def ring(self) -> None:
        """End the wait."""
        os.eventfd_write(self._bell, 1)

    def wait(self, seconds: float | None) -> list[tuple[int, Callable[[], None]]]:
        """Wait for as long at most (None: for ever); the descriptors that can be read and what is to be called now."""
        found = []
        for fd, _ in self._poll.poll(seconds):
            if fd == self._bell:
                os.eventfd_read(fd)
            elif (hear := self._hear.get(fd)) is not None:
                found.append((fd, hear))
        return found
