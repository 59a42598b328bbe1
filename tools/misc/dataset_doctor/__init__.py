"""The dataset doctor: rules over samples, checked by several processes."""
