"""Verilator's runtime, compiled once: a stand-in for ccache that knows exactly what may be shared.

Compiling a small unit is one second; compiling the runtime that comes with every build is eight. The
runtime's objects depend on the compiler and its flags only, and cocotb's ``verilator.cpp`` on the header
of the top module besides, which is the same text for units with the same ports. Verilator's makefiles
offer a hook before the compiler (``OBJCACHE``); the script below sits there and keeps these objects.
"""

from __future__ import annotations

import hashlib
import shlex
import subprocess
from pathlib import Path

from sw.files import write_text

BUILT = "build/built.json"
"""Below a job's folder: what its build was made from, there once it is whole."""
FOLDER_VARIABLE = "NORMFORGE_OBJECTS"

_SCRIPT = """\
#!/bin/sh
# Called as: <this> COMPILER FLAGS... -c -o OBJECT SOURCE, in the folder of the build.
for source; do :; done
case "$source" in
  */verilated*.cpp) depends=/dev/null ;;
  */verilator.cpp) depends=Vtop.h ;;
  *) exec "$@" ;;
esac
object=$(basename "$source" .cpp).o
key=$({ echo "$@"; cat "$depends"; } | cksum | tr ' ' '-')
kept="$NORMFORGE_OBJECTS/$key-$object"
if [ ! -f "$kept" ]; then
  "$@" || exit $?
  cp "$object" "$kept.$$" && mv "$kept.$$" "$kept"
else
  cp "$kept" "$object"
fi
"""


def install(folder: Path, *tools: str) -> dict[str, str]:
    """Put the script into a folder and return the environment that makes builds use it.

    Objects of another compiler, or of other ``tools`` (names with versions), go to another sub-folder.
    """
    compiler = subprocess.run(["g++", "--version"], capture_output=True, text=True, check=False).stdout
    made_by = "\n".join([*tools, compiler])
    kept = folder.resolve() / hashlib.sha256(made_by.encode()).hexdigest()[:12]
    kept.mkdir(parents=True, exist_ok=True)
    script = folder.resolve() / "keep_objects.sh"
    write_text(script, _SCRIPT)
    return {"OBJCACHE": f"sh {shlex.quote(str(script))}", FOLDER_VARIABLE: str(kept)}
