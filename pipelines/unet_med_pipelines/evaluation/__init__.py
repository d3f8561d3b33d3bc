"""How good are the masks: metrics of one pair of masks, and scores of a folder of predictions against references."""
