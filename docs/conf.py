"""How Sphinx builds the documentation: `sphinx-build -W -b html docs docs/_build/html`."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # notebooks call `hebm`

import reference_pages  # noqa: E402
from docstring_markup import as_restructured_text  # noqa: E402

import hebm  # noqa: E402

project = "hebm"
release = version = hebm.__version__
html_title = f"hebm {release}"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
html_theme_options = {"navigation_with_keys": True}
html_show_copyright = False

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["deflist", "dollarmath", "colon_fence"]
myst_heading_anchors = 3

nb_execution_mode = "cache"
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = "remove"

default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100
napoleon_use_rtype = False

_ATTRS_DEFAULT = re.compile(r"= (attr_dict\['\w+'\]\.default|NOTHING)")
_LINK_TO_FILE = re.compile(r"(?<!!)\[([^\]`]+)\]\((?!https?:|#)[^)]+\)")


def _plain_docstring(app: Any, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Let docstrings be plain text: escape what reStructuredText would read in them."""
    lines[:] = as_restructured_text(lines)


def _without_factories(
    app: Any, what: str, name: str, found: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Write `...` for the defaults of recipes, whose values are in the list of their arguments."""
    return signature and _ATTRS_DEFAULT.sub("= ...", signature), returns


def _without_links_to_files(app: Any, path: Path, page: str, content: list[str]) -> None:
    """Show links of an included file that lead to files of the repository, not to pages, as plain code."""
    content[0] = _LINK_TO_FILE.sub(r"`\1`", content[0])


def setup(app: Any) -> None:
    """Write the generated pages, and read docstrings as plain text."""
    reference_pages.write(HERE / "reference" / "generated")
    app.connect("autodoc-process-docstring", _plain_docstring, priority=100)
    app.connect("autodoc-process-signature", _without_factories)
    app.connect("include-read", _without_links_to_files)
