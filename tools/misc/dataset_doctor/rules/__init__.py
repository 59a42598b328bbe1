"""One rule of the dataset doctor per class; every module here is imported."""
