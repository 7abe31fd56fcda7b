"""Models of others, opened into flat graphs of Keras's own layers."""
