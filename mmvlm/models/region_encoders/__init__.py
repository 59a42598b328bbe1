"""Region encoders: a box, a point or a mask of an image to tokens of the text."""
