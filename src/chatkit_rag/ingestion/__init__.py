"""From a site's files to passages: reading pages, cutting them, putting them into an index."""
