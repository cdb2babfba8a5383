"""A static program that does nothing, so that tests observe only the container."""

import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("noop.c")


def compile_noop(directory: Path) -> Path:
    """Compile the no-op program into `directory` and return its path."""
    program = directory / "noop"
    flags = ["-static", "-nostdlib", "-nostartfiles", "-fno-stack-protector", "-O2"]
    subprocess.run(["cc", *flags, "-o", program, SOURCE], check=True)
    return program
