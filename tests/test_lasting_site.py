"""The process of `serve`, which is its own."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import gc, sys
from chatkit_rag.serving import create_lasting_site
from chatkit_rag.settings import Settings

site = create_lasting_site(Settings(data_dir=sys.argv[1]))
print(gc.get_freeze_count(), len(gc.get_objects()))
"""


def test_python_looks_for_no_garbage_in_what_a_site_is_made_of(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )

    left_out, looked_through = map(int, done.stdout.split())
    assert left_out > 100 * looked_through
