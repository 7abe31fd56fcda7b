"""Writers of data sets: folders of splits, CSV tables and TFRecord files."""
