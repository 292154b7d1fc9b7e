"""The command: `python sweeps/run.py [-m] KEY=VALUE ...`.

Exit codes: 0 every trial ok; 1 the sweep finished, some trial is not ok; 2 bad request, nothing ran; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# As a script, this file's folder is first on the path, and the packages beside it cannot be found.
sys.path[0] = str(ROOT)
sys.path.insert(1, str(Path.cwd()))  # a user's own nets lie here

import hydra
from omegaconf import DictConfig

from sweeps import compose, schema, session
from sweeps.errors import SweepError, UsageError
from sweeps.interrupts import EXIT_CODE, Interrupts
from sweeps.terminal import Terminal
from tracking.journal import JournalError

CONF = ROOT / "conf"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def command(cfg: DictConfig) -> None:
    """One trial: Hydra's way without `-m`. With it, the launcher goes to the session itself."""
    session.current().run([cfg], folder=hydra.core.hydra_config.HydraConfig.get().runtime.output_dir)


def main() -> int:
    """Run the command line in `sys.argv` and give its exit code."""
    schema.register()
    terminal = Terminal()
    # Hydra ends the process on an error unless it is told to let it through.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    interrupts = Interrupts()
    interrupts.install()
    overrides = [argument for argument in sys.argv[1:] if not argument.startswith("-") and "=" in argument]
    running = session.Session(terminal, interrupts)
    try:
        with terminal.telling("tracking"), running:
            command()
    except UsageError as error:
        terminal.problems(error.problems)
        return 2
    except compose.ComposeError as error:
        found = compose.diagnose(overrides, CONF, [session.this_node()])
        terminal.problems(found or [str(error)])
        return 2
    except OSError as error:
        if running.recorder is not None:
            raise
        # Hydra makes the folder before anybody is asked.
        place = f"expected a results folder that can be written. Received: {error.filename} ({error.strerror})."
        terminal.problems([place, *compose.diagnose(overrides, CONF, [session.this_node()])])
        return 2
    except (SweepError, JournalError) as error:
        terminal.problems([str(error)])
        return 1
    except KeyboardInterrupt:
        return EXIT_CODE
    return running.exit_code()


if __name__ == "__main__":
    sys.exit(main())
