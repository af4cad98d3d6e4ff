"""How collecting goes, over HTTP: health, metrics, a page."""
