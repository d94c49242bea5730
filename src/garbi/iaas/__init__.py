"""The controller: nodes, images and machines across hosts. It speaks to nodes through `garbi.hyper_api` only."""
