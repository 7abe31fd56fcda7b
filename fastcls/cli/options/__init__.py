"""Option groups that several commands share, and how their values are read."""

from fastcls.cli.options.common import drop_loaded, is_typed, refuse_typed, show_progress
from fastcls.cli.options.data import data_options, max_pixels_option, open_data
from fastcls.cli.options.extraction import (
    base_details,
    base_options,
    cut_options,
    extract_options,
    name_option,
    read_base,
    read_cut,
    read_cuts,
    read_extract,
    read_views,
    split_options,
    view_options,
)
from fastcls.cli.options.records import read_request, request_options
from fastcls.cli.options.training import (
    finetune_options,
    read_finetune,
    read_head,
    read_training,
    train_batch_size,
    train_options,
)

__all__ = [
    "base_details",
    "base_options",
    "cut_options",
    "data_options",
    "drop_loaded",
    "extract_options",
    "finetune_options",
    "is_typed",
    "max_pixels_option",
    "name_option",
    "open_data",
    "read_base",
    "read_cut",
    "read_cuts",
    "read_extract",
    "read_finetune",
    "read_head",
    "read_request",
    "read_training",
    "read_views",
    "refuse_typed",
    "request_options",
    "show_progress",
    "split_options",
    "train_batch_size",
    "train_options",
    "view_options",
]
