project = "A course of tests"
extensions = ["myst_parser", "sphinx.ext.mathjax", "sphinx.ext.autodoc"]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
html_theme = "furo"
html_baseurl = "https://course.example/book/"
exclude_patterns = ["_build"]
release = version = "2.1"
