"""The same graph on the engines that there are."""
