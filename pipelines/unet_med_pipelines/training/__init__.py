"""From a recipe and a folder of labelled scans to a model folder."""
