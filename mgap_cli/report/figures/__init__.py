"""Figures, drawn with matplotlib's object interface, and the palette that they share."""
