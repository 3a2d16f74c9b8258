"""What keeps us from writing our own files: said once, and once when it is over."""

from __future__ import annotations

from smart_monitor.daemon.log import Log


class Complaint:
    """The complaint of one run's monitor."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.text = ""
        """Why our own files can't be written; empty while they can."""
        self._lost = 0

    def hear(self, trouble: str, lost: int) -> None:
        """`trouble`: why lines can't be written now, empty if they can; `lost`: lines given up since the start."""
        if trouble != self.text:
            self.text = trouble
            if trouble:
                self._log.error(f"Journal, events or log can't be written ({trouble}); lines wait in memory")
            else:
                gone = f"{lost} lines are lost" if lost else "no line is lost"
                self._log.info(f"Journal, events and log are written again; {gone}")
        elif lost and not self._lost:
            self._log.error("More lines wait than memory is given to; the oldest are lost")
        self._lost = lost

    def no_state(self, error: OSError) -> None:
        """The state can't be saved: nothing is lost by that."""
        if not self.text:
            self.text = error.strerror or str(error)
            self._log.error(f"The state can't be saved ({self.text}); the journal holds everything")
