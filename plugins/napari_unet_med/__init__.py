"""unet-med inside napari: scans open with their geometry kept, and painted masks go back onto the scan's own grid.

Nothing here imports napari: readers and writers speak in layer data tuples (data, keyword arguments, layer type).
"""
