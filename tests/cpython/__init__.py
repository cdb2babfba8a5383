"""CPython's own tests of subprocess, run with `subprocess.Popen` replaced."""
