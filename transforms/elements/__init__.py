"""What travels on the edges of the graph, and what is told of it meanwhile."""
