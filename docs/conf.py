"""Sphinx's configuration. `make docs` builds these pages with warnings as errors."""

import os
import re
import shutil
import tomllib
from importlib import import_module
from importlib.metadata import version as installed_version
from logging import getLogger
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

import minidocker

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REPOSITORY = PROJECT["urls"]["Repository"]

project = PROJECT["name"]
copyright = "the minidocker contributors"  # noqa: A001 - the name that Sphinx reads
version = release = installed_version(project)
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# --- prose ---------------------------------------------------------------------------------------

myst_heading_anchors = 4

# Pages from the top of the tree. README comes before the table of contents.
PAGES = {"index": "README.md", "security": "SECURITY.md", "contributing": "CONTRIBUTING.md",
         "changelog": "CHANGELOG.md"}  # fmt: skip

# --- notebooks -----------------------------------------------------------------------------------

# The repository stores the notebooks without outputs. The build copies and runs them; a cell that
# fails makes the build fail.
NOTEBOOKS = ROOT / "examples" / "notebooks"
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True

# Kernels read their settings here instead of in the user's home, and log errors only.
KERNELS = ROOT / "build" / "docs" / "ipython"
os.environ["IPYTHONDIR"] = str(KERNELS)
KERNEL_SETTINGS = KERNELS / "profile_default" / "ipython_kernel_config.py"
KERNEL_SETTINGS.parent.mkdir(parents=True, exist_ok=True)
KERNEL_SETTINGS.write_text("c.IPKernelApp.log_level = 'ERROR'\n")
getLogger("traitlets").setLevel("WARNING")

# --- reference -----------------------------------------------------------------------------------

# `__all__` of these modules is the public API.
PUBLIC = ("minidocker", "minidocker.aio", "minidocker.linux")

default_role = "py:obj"
add_module_names = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "fully-qualified"
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

# --- HTML ----------------------------------------------------------------------------------------

html_theme = "furo"
html_title = project
html_copy_source = False


def link_pages(_app: Sphinx, page: str, source: list[str]) -> None:
    """Turn relative links into links to pages of this site, or to files of the repository."""
    base = (DOCS / page).parent
    if page in PAGES:
        base = ROOT
        source[0] = (ROOT / PAGES[page]).read_text() + "\n" + source[0]
    places = {name: target for target, name in PAGES.items()}

    def link(found: re.Match[str]) -> str:
        path = Path(os.path.normpath(base / found["path"]))
        name = str(path.relative_to(ROOT))
        if name in places:
            target = f"/{places[name]}.md"
        elif path.parent == NOTEBOOKS:
            target = f"/notebooks/{path.name}"
        elif path.is_relative_to(DOCS):
            target = f"/{path.relative_to(DOCS)}"
        else:
            target = f"{REPOSITORY}/{'tree' if path.is_dir() else 'blob'}/main/{name}"
        return f"]({target}{found['anchor'] or ''})"

    source[0] = re.sub(r"\]\((?!\w+:|#)(?P<path>[^)#]+)(?P<anchor>#[^)]*)?\)", link, source[0])


def name_bases(_app: Sphinx, _name: str, _of: type, _options: object, bases: list[object]) -> None:
    """Show a public base class by its public name instead of the module that defines it."""
    for index, base in enumerate(bases):
        name = getattr(base, "__name__", None)
        if name in minidocker.__all__ and getattr(minidocker, name) is base:
            bases[index] = f":py:class:`minidocker.{name}`"


def check_reference(_app: Sphinx, env: BuildEnvironment) -> None:
    """Warn about each public name without an entry in the reference."""
    entries = env.domains.python_domain.objects
    for module in PUBLIC:
        for name in import_module(module).__all__:
            if f"{module}.{name}" not in entries:
                logging.getLogger(__name__).warning("docs/api has no entry for %s.%s", module, name)


def setup(app: Sphinx) -> None:
    """Copy the notebooks, and connect the functions above to the build."""
    shutil.copytree(NOTEBOOKS, DOCS / "notebooks", dirs_exist_ok=True)
    app.connect("source-read", link_pages)
    app.connect("autodoc-process-bases", name_bases)
    app.connect("env-check-consistency", check_reference)
