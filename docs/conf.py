"""Sphinx: the site is built by ``sphinx-build -W -b html docs build/docs``."""

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
_PROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = "spikebridge"
author = "The spikebridge authors"
release = version = _PROJECT["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "from_source"]
exclude_patterns = ["_ext", "**/.*"]
smartquotes = False
default_role = "code"

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"spikebridge {version}"
html_copy_source = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
html_css_files = ["tables.css"]
html_static_path = ["_static"]
