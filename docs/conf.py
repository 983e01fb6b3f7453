"""Settings of the documentation site; see CONTRIBUTING.md for how to build it."""

from __future__ import annotations

from seqmamba import __version__

project = "seqmamba"
release = version = __version__
author = "the seqmamba developers"
copyright = author

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
html_theme = "furo"
html_title = "seqmamba"
default_role = "code"  # a name between single backticks, as docstrings write it

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 4
# READMEs are included whole: what they link to inside of the repository is no page of this site.
suppress_warnings = ["myst.xref_missing", "myst.header"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # shapes with a star are no markup
napoleon_use_rtype = False
