"""Child processes: where they find htapkit, and what clears up when their owner cannot.

A guard is a small shell that waits for its input to end (kill -9, a lost terminal). It then ends
the processes whose working directory is in the guarded one, and removes that; no others.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# Reads one line; the end of the input without one means that the owner died. A process is known by
# its working directory, so that a recycled process id is never taken for ours. Whoever dies slowly
# may write while we remove, so that is tried again.
_SCRIPT = """
read -r word && exit 0
end() {
  for process in /proc/[0-9]*; do
    case "$(readlink "$process/cwd" 2>/dev/null)/" in
      "$2"/*) kill "$1" "${process#/proc/}" 2>/dev/null ;;
    esac
  done
}
cd /
end -QUIT "$1" && sleep 1
for turn in 1 2 3 4 5 6 7 8 9 10; do
  end -KILL "$1"
  rm -rf -- "$1" 2>/dev/null
  [ -e "$1" ] || exit 0
  sleep 1
done
"""


def child_environment() -> dict[str, str]:
    """Ours; and a child imports htapkit from where we did, whatever its directory."""
    path = [str(Path(entry).resolve()) for entry in sys.path if entry]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


class Guard:
    """Watches over a directory for as long as this process lives, or until `release`."""

    def __init__(self, directory: Path) -> None:
        """Start watching."""
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "guard", str(directory.resolve())],
            stdin=subprocess.PIPE,
            cwd="/",
            start_new_session=True,
        )

    def release(self) -> None:
        """The owner has cleared up itself. Safe to call twice."""
        if self._process.poll() is None:
            self._process.communicate(b"done\n")
