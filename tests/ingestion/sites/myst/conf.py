project = "A course of tests"
extensions = ["myst_parser", "sphinx.ext.mathjax"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "substitution", "tasklist"]
myst_substitutions = {"angle": "radians"}
myst_heading_anchors = 3
html_theme = "furo"
html_baseurl = "https://course.example/book/"
exclude_patterns = ["_build"]
release = version = "2.1"
