"""One HTML page that holds a whole sweep."""
