"""The program: options, planner, graph, the local drive and the commands."""
