"""How Sphinx makes the documentation: `make docs`. The pages are the Markdown that a forge shows too.

The source folder is the repository's root, so that links to CONTRIBUTING.md and to files of the code are links here
too; what is a page is said by `include_patterns`.
"""

project = "idgenrec"
author = "The idgenrec authors"
extensions = ["myst_parser"]
root_doc = "docs/contents"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "docs/benchmarks/*.md"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
highlight_language = "none"
html_theme = "furo"
html_title = "idgenrec"
html_static_path = ["static"]
html_css_files = ["page.css"]
html_extra_path = ["root"]  # whoever opens the folder is led to the first page
html_copy_source = False
html_show_copyright = False
