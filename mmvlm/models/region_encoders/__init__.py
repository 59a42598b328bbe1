"""Region encoders: a box, a point or a mask of a picture to tokens of the text."""
