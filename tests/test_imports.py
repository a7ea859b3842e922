import subprocess
import sys

import pytest

HEAVY = ("torch", "timm", "brevitas", "torchvision")


@pytest.mark.parametrize("module", ["sw.ir.realize", "sw.cli", "gp.evolve", "hw.compile", "sw.config"])
def test_light_modules_never_load_torch(module):
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
