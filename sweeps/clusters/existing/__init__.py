"""`cluster=ray`: the nodes of a Ray cluster that was there before the sweep."""
