"""Readers of data sets: folders of images, CSV tables and TFRecord files."""
