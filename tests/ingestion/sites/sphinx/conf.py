project = "A course of tests"
extensions = ["sphinx.ext.mathjax"]
html_theme = "furo"
html_baseurl = "https://course.example/book/"
exclude_patterns = ["_build"]
release = version = "2.1"
