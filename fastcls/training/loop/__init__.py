"""The training loop, from the top: compile a model, fit it epoch by epoch, make the passes of an epoch.

`head_trainer` and `finetuner` call `compile.compile_and_fit`; it calls `fit.fit`, which runs epochs, and they
are made of `passes`. What they need besides: losses, optimization, validation, logs, and checkpoints, which
keep snapshots.
"""
