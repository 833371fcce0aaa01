"""What a machine without an accelerator can tell of one."""

import subprocess
import sys
from pathlib import Path


def test_the_work_of_an_epoch_asks_the_device_nothing_and_stays_on_it():
    """The script also breaks that promise, in every part of the work, and fails where this is not noticed."""
    script = Path(__file__).with_name("pretend_accelerator.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
