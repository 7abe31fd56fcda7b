"""Campaigns against the command line: kills, damaged files, failing disks. They know fastcls from outside."""

import os

# Before NumPy: a process that is to fork has one thread.
os.environ.update(OPENBLAS_NUM_THREADS="1", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
