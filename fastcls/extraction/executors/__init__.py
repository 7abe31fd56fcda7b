"""Who runs shard tasks: this process, local worker processes, machines that share storage, a Ray cluster."""
