"""Questions on the page that the reader has open, asked and checked through ChatKit's structured input."""
